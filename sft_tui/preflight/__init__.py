"""The check of a run: reports before it starts what would make it fail."""
