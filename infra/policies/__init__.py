"""Rules over every resource of a stack, as plain functions, and the same rules as a Pulumi policy pack."""
