"""What a change does to the security, the data and the cost of a stack: two previews compared."""
