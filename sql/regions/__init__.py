"""Regions: where nodes are, what a database asks of them, and where its keys should therefore be."""
