"""Programs, the command line and experiments."""
