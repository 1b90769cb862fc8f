"""A second opinion on what was deployed: prowler's checks, asked of a deployment on the emulators."""
