"""Real clients, unmodified, against a node in its own process."""
