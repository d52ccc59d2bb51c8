"""T5 and mT5 on processors: packed, without padding."""
