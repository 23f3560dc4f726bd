"""Messages between nodes: frames, streams and calls as state machines, without a network."""
