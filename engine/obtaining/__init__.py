"""Models as people get them: downloaded from a hub, or converted from GGUF."""
