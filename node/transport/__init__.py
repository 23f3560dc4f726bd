"""Messages between nodes over gRPC.  A node that has no peers imports nothing of this: gRPC costs 9 MiB."""
