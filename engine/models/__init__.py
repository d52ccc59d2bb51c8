"""Models: what a folder holds, how it is loaded, and how each family is computed."""
