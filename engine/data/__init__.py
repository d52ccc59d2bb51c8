"""Rows on their way from people's files to the trainer."""
