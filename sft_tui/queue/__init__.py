"""The queue of runs: its file, and the process that starts them one after another."""
