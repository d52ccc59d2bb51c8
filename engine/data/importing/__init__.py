"""People's files turned into two columns of text, with an account that adds up."""
