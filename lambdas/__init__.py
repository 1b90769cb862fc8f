"""Functions that run on AWS Lambda, and the pure modules under them."""
