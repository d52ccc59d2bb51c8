"""The process that owns a run from start to end."""
