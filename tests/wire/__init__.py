"""The protocol as a client that means harm would speak it."""
