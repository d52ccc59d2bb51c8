"""A conversation with a model: its turns as a prompt, and the reply token by token."""
