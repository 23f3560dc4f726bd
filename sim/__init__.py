"""The deterministic simulator: virtual time, seeds, checkers."""
