"""Every other encoder-decoder model, and every other device: transformers' own code, padded."""
