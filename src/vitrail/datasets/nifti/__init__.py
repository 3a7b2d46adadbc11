"""NIfTI: slices of brain and body volumes, upright and all to the same scale.

Nothing outside this folder imports nibabel. Headers are read in :mod:`head`, voxels in :mod:`voxels`.
"""

from vitrail.datasets.nifti.reader import NiftiReader

__all__ = ["NiftiReader"]
