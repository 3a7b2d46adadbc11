"""GRADE: how good an explanation is, measured on the model itself and beside maps that know nothing of it."""
