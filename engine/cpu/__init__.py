"""The computations of a training step on CPUs: torch's own products, and the rest in C if that was compiled."""
