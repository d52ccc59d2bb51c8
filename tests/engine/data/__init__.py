"""Tests of the rows on their way from files to the trainer."""
