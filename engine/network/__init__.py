"""A model as the training step sees it: from rows of token ids to the loss of their labels, and to replies."""
