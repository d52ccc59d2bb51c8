"""What records of data sets look like: every one becomes a conversation, and each of its answers a row."""
