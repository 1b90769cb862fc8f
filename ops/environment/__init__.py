"""An account made ready for a stack, and the check of what a stack needs before it is deployed."""
