"""The catalog: descriptors as transactional rows, and the in-memory state made of them."""
