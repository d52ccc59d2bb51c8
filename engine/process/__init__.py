"""Shared by every program of the engine: its ranks, its heartbeat, and the report of how it ended."""
