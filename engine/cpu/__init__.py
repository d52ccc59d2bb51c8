"""What the training step computes on processors: torch's own products, and the rest in C where it is compiled."""
