"""All other encoder-decoder models, and all other devices: transformers' own code, padded."""
