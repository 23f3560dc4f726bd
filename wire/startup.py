"""The first packet: startup, SSLRequest, GSSENCRequest, CancelRequest (chapter 55.2.1)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from base.errors import SqlError

STARTUP_BYTES_MAX: Final = 10_000
"""MAX_STARTUP_PACKET_LENGTH."""
PARAMETERS_MAX: Final = 100
PROTOCOL_3: Final = 3
SSL_REQUEST: Final = 80_877_103
GSS_REQUEST: Final = 80_877_104
CANCEL_REQUEST: Final = 80_877_102
CANCEL_KEY_BYTES_MAX: Final = 256


class Startup(NamedTuple):
    """A startup packet's parameters."""

    minor: int
    user: str
    database: str
    options: dict[str, str]
    unknown: tuple[str, ...]
    """Protocol options (_pq_.*) that we do not know."""


def _violation(message: str) -> SqlError:
    return SqlError(message, sqlstate="08P01")


def check_length(length: int) -> None:
    """Refuses a first packet's length before anything is allocated for it."""
    if not 8 <= length <= STARTUP_BYTES_MAX:
        raise _violation("invalid length of startup packet")


def parse_cancel(body: bytes) -> tuple[int, bytes]:
    """Returns (pid, key)."""
    if not 8 <= len(body) <= 4 + CANCEL_KEY_BYTES_MAX:
        raise _violation("invalid length of cancel request packet")
    return struct.unpack_from("!i", body)[0], body[4:]


def parse_startup(code: int, body: bytes) -> Startup:
    """Raises 08P01, 0A000 (protocol), 28000 (no user), 22021 (not UTF-8)."""
    major, minor = code >> 16, code & 0xFFFF
    if major != PROTOCOL_3:
        raise SqlError(f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0", sqlstate="0A000")
    if not body.endswith(b"\0"):
        raise _violation("invalid startup packet layout: expected terminator as last byte")
    fields = body[:-1].split(b"\0")
    if fields and fields[-1] == b"":
        fields.pop()
    if len(fields) % 2 or len(fields) > 2 * PARAMETERS_MAX:
        raise _violation("invalid startup packet layout: expected terminator as last byte")
    try:
        texts = [field.decode() for field in fields]
    except UnicodeDecodeError:
        raise SqlError('invalid byte sequence for encoding "UTF8" in startup packet', sqlstate="22021") from None
    values = dict(zip(texts[::2], texts[1::2]))
    user = values.pop("user", "")
    if not user:
        raise SqlError("no PostgreSQL user name specified in startup packet", sqlstate="28000")
    database = values.pop("database", "") or user
    if values.pop("replication", "false").lower() not in ("false", "off", "no", "0"):
        raise SqlError("replication connections are not supported", sqlstate="0A000")
    unknown = tuple(name for name in values if name.startswith("_pq_."))
    for name in unknown:
        del values[name]
    command_line = values.pop("options", "")
    return Startup(minor, user, database, {**values, **parse_options(command_line)}, unknown)


def parse_options(text: str) -> dict[str, str]:
    """Parses ``-c name=value --name=value``; a backslash escapes a blank."""
    words: list[str] = []
    current, escaped = "", False
    for char in text:
        if escaped:
            current, escaped = current + char, False
        elif char == "\\":
            escaped = True
        elif char.isspace():
            if current:
                words.append(current)
            current = ""
        else:
            current += char
    if current:
        words.append(current)
    result: dict[str, str] = {}
    pending = iter(words)
    for word in pending:
        if word == "-c":
            word = next(pending, "")
        elif word.startswith(("-c", "--")):
            word = word[2:]
        else:
            raise _violation(f"invalid command-line argument for server process: {word}")
        name, separator, value = word.partition("=")
        if not separator:
            raise _violation(f"invalid command-line argument for server process: {word}")
        result[name.replace("-", "_")] = value
    return result
