"""The errors that input functions share, with PostgreSQL's texts."""

from __future__ import annotations

from base.errors import MeridianError, error


def invalid_syntax(type_name: str, text: str) -> MeridianError:
    return error("22P02", f'invalid input syntax for type {type_name}: "{text}"')


def out_of_range(type_name: str, text: str) -> MeridianError:
    return error("22003", f'value "{text}" is out of range for type {type_name}')


def bad_binary() -> MeridianError:
    """The value was longer than its type's format says."""
    return error("22P03", "incorrect binary data format")


def binary_too_short() -> MeridianError:
    return error("08P01", "insufficient data left in message")


def wrong_length(data: bytes, length: int) -> MeridianError:
    """The error for a fixed-length value of another length."""
    return binary_too_short() if len(data) < length else bad_binary()
