"""Conversations as rows of token ids, by the model's own chat template."""
