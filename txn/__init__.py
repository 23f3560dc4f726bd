"""The client side of a transaction: coordinator, write buffer, read spans, refresh, commit."""
