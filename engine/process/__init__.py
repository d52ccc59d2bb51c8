"""What every program of the engine shares: its ranks, its heartbeat, its end in words."""
