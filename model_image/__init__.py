"""What the container runs: serving and training. Knows nothing of Pulumi."""
