"""DICOM: the pictures of scanners, from bytes to upright 8-bit pixels, and what the header says besides them.

Nothing outside this folder imports pydicom. A file is opened in :mod:`opening`, described in :mod:`describing`, its pixels are
taken out in :mod:`pixels` and become grey tones in :mod:`grey`.
"""

from vitrail.datasets.dicom.reader import DicomReader

__all__ = ["DicomReader"]
