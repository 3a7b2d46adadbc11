"""HUNT: whether a model takes a shortcut: where its maps point, and what it still knows when the anatomy is gone."""
