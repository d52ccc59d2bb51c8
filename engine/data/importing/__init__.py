"""Users' files converted to two columns of text, with an account that adds up."""
