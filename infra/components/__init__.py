"""The components of a stack, one file per concern."""
