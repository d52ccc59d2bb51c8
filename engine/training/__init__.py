"""A run: its loop, step, checkpoints, evaluation and resume."""
