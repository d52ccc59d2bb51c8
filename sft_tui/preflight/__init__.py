"""Pre-flight: what would fail, told before the run."""
