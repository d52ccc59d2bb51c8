"""Rows on their way from users' files to the trainer."""
