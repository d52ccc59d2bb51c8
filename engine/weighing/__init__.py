"""The losses of the tokens of single rows, for people who look at a run's data."""
