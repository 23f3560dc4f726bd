"""Small types: uuid, money, pg_lsn, tid, and the reg* types.

uuid    16 bytes                     pg_lsn  int, printed as two hexadecimal halves
money   int, hundredths              tid     str, as printed: (block,offset)
reg*    int, the OID; names only through the settings' RegResolver
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

from base.errors import error
from base.typeio.integers import parse_oid
from base.typeio.rejection import invalid_syntax, out_of_range, wrong_length
from base.typeio.settings import RegResolver

# --- uuid -------------------------------------------------------------------------------

_UUID: Final = re.compile(r"\{?(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}\}?\Z")


def parse_uuid(text: str) -> bytes:
    """32 hexadecimal digits, a hyphen allowed after every four, maybe in braces."""
    if _UUID.match(text) is None or (text[0] == "{") != (text[-1] == "}"):
        raise invalid_syntax("uuid", text)
    return bytes.fromhex(text.strip("{}").replace("-", ""))


def render_uuid(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def receive_uuid(data: bytes) -> bytes:
    if len(data) != 16:
        raise wrong_length(data, 16)
    return data


# --- money ------------------------------------------------------------------------------

_MONEY: Final = re.compile(
    r"\s*(\()?\s*(-)?\s*\$?\s*(-)?\s*([0-9][0-9,]*)?(?:\.([0-9]*))?\s*\$?\s*(-)?\s*(\))?\s*\Z", re.ASCII
)
_MONEY_DIGITS_MAX: Final = 25


def parse_money(text: str) -> int:
    """``-$1,234.56``, in the C locale; a third decimal rounds."""
    match = _MONEY.match(text)
    if match is None:
        raise invalid_syntax("money", text)
    opening, minus, inner_minus, whole, part, last_minus, closing = match.groups()
    digits = (whole or "").replace(",", "").lstrip("0")
    part = part or ""
    if len(digits) > _MONEY_DIGITS_MAX:
        raise out_of_range("money", text)
    cents = int(digits or "0") * 100 + int(part[:2].ljust(2, "0"))
    if part[2:3] >= "5":
        cents += 1
    if opening or minus or inner_minus or last_minus or closing:
        cents = -cents
    if not -(2**63) <= cents < 2**63:
        raise out_of_range("money", text)
    return cents


def render_money(value: int) -> str:
    whole, cents = divmod(abs(value), 100)
    return f"{'-' if value < 0 else ''}${whole:,}.{cents:02d}"


# --- pg_lsn, tid --------------------------------------------------------------------------

_LSN: Final = re.compile(r"([0-9a-fA-F]{1,8})/([0-9a-fA-F]{1,8})\Z")
_TID: Final = re.compile(r"\s*\(\s*([+-]?[0-9]+)\s*,\s*([+-]?[0-9]+)\)", re.ASCII)
_TID_FORMAT: Final = struct.Struct(">IH")


def parse_lsn(text: str) -> int:
    match = _LSN.match(text)
    if match is None:
        raise invalid_syntax("pg_lsn", text)
    return int(match.group(1), 16) << 32 | int(match.group(2), 16)


def render_lsn(value: int) -> str:
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def parse_tid(text: str) -> str:
    match = _TID.match(text)
    if match is None or max(len(part) for part in match.groups()) > 12:
        raise invalid_syntax("tid", text)
    block, offset = int(match.group(1)), int(match.group(2))
    if not -(2**31) <= block < 2**32 or not 0 <= offset < 2**16:
        raise invalid_syntax("tid", text)
    return f"({block & 0xFFFFFFFF},{offset})"


def send_tid(value: str) -> bytes:
    block, offset = value[1:-1].split(",")
    return _TID_FORMAT.pack(int(block), int(offset))


def receive_tid(data: bytes) -> str:
    if len(data) != 6:
        raise wrong_length(data, 6)
    block, offset = _TID_FORMAT.unpack(data)
    return f"({block},{offset})"


# --- reg* ---------------------------------------------------------------------------------


def reg_parser(type_oid: int, type_name: str, resolver: RegResolver | None) -> Callable[[str], int]:
    """Numbers and '-' are OIDs; names are the resolver's."""

    def parse(text: str) -> int:
        if text == "-":
            return 0
        if text and text.isascii() and text.isdigit():
            return parse_oid(text)
        if resolver is None:
            raise error("22P02", f'invalid input syntax for type {type_name}: "{text}"')
        return resolver.oid_of(type_oid, text)

    return parse


def reg_renderer(type_oid: int, resolver: RegResolver | None) -> Callable[[int], str]:
    """The object's name; its number if it has none."""

    def render(value: int) -> str:
        if value == 0:
            return "-"
        name = resolver.name_of(type_oid, value) if resolver is not None else None
        return str(value) if name is None else name

    return render
