"""Pre-flight: reports before a run what would make it fail."""
