"""Workloads: what the clients of a run do, and what must be true of it afterwards."""
