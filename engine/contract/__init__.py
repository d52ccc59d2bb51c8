"""What the training job and its viewers agree on; imports neither torch nor textual nor pyarrow."""
