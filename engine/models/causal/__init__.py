"""Causal language models: decoders alone, which chat by a template."""
