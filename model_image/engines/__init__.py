"""What computes: token ids and tensors in, tokens and vectors out. Torch lives here and nowhere else in the server."""
