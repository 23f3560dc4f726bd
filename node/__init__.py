"""One process: configuration, command line, assembly of all layers, admin HTTP, metrics."""
