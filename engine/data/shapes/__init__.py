"""The shapes of records in data sets: every record becomes a conversation, and each of its answers a row."""
