"""vitrail: from a folder of medical images to a classifier that a careful person can question."""
