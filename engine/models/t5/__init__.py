"""T5 and mT5 on CPUs: packed, without padding."""
