"""Executors: the row executor, complete and compiled."""
