"""Text and binary form of inet and cidr.

The datum is the text PostgreSQL prints: ``192.168.1.1``, ``192.168.1.1/24``, ``::1``; a cidr always
has its prefix.  Binary: | family 1: 2 or 3 | bits 1 | is cidr 1 | length 1 | address |.
"""

from __future__ import annotations

import re
from typing import Final

from base.errors import error
from base.typeio.rejection import bad_binary, binary_too_short, invalid_syntax

_FAMILY_4: Final = 2
_FAMILY_6: Final = 3

Address = tuple[bytes, int]
"""(4 or 16 bytes, prefix length)."""


def parse_inet(text: str) -> str:
    address = _parse(text, False)
    return render_address(address, False)


def parse_cidr(text: str) -> str:
    address = _parse(text, True)
    if _has_host_bits(address):
        raise error("22P02", f'invalid cidr value: "{text}"', detail="Value has bits set to right of mask.")
    return render_address(address, True)


def split_address(value: str) -> Address:
    """Returns the bytes and the prefix length of a datum."""
    address, _, prefix = value.partition("/")
    data = _ipv6(address) if ":" in address else _ipv4(address)
    assert data is not None, value
    return data, int(prefix) if prefix else len(data) * 8


def render_address(address: Address, is_cidr: bool) -> str:
    data, prefix = address
    text = ".".join(map(str, data)) if len(data) == 4 else _ipv6_text(data)
    return text if prefix == len(data) * 8 and not is_cidr else f"{text}/{prefix}"


def _has_host_bits(address: Address) -> bool:
    data, prefix = address
    return int.from_bytes(data, "big") & ((1 << (len(data) * 8 - prefix)) - 1) != 0


def _parse(text: str, is_cidr: bool) -> Address:
    name = "cidr" if is_cidr else "inet"
    written, slash, prefix_text = text.partition("/")
    data = _ipv6(written) if ":" in written else _ipv4_prefix(written, is_cidr and not slash, is_cidr or bool(slash))
    if data is None or (is_cidr and written.endswith(".")) or (slash and not _PREFIX.match(prefix_text)):
        raise invalid_syntax(name, text)
    address, implied = (data, len(data) * 8) if isinstance(data, bytes) else data
    prefix = int(prefix_text) if slash else implied
    if prefix > len(address) * 8:
        raise invalid_syntax(name, text)
    return address, prefix


_PREFIX: Final = re.compile(r"[0-9]{1,3}\Z")
_OCTETS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,3}\.?\Z", re.ASCII)
_HEX: Final = re.compile(r"0[xX]([0-9a-fA-F]{1,8})\Z")


def _ipv4(text: str) -> bytes | None:
    """A full dotted quad."""
    if text.count(".") != 3 or _OCTETS.match(text) is None:
        return None
    octets = [int(part) for part in text.split(".") if part]
    return bytes(octets) if len(octets) == 4 and max(octets) < 256 else None


def _ipv4_prefix(text: str, is_classful: bool, may_be_short: bool) -> tuple[bytes, int] | None:
    """Fewer octets are allowed in a cidr, or before a prefix; without a prefix the class of old gives it."""
    match = _HEX.match(text)
    if match is not None and may_be_short:
        digits = match.group(1)
        octets = list(bytes.fromhex(digits + "0" * (len(digits) % 2)))
    elif _OCTETS.match(text) is None:
        return None
    else:
        octets = [int(part) for part in text.split(".") if part]
    if max(octets) > 255 or (len(octets) < 4 and not may_be_short):
        return None
    prefix = 32
    if is_classful:
        first = octets[0]
        prefix = 32 if first >= 240 else 8 if first >= 224 else 24 if first >= 192 else 16 if first >= 128 else 8
        prefix = max(prefix, len(octets) * 8)
        if prefix == 8 and first == 224:
            prefix = 4
    return bytes(octets + [0] * (4 - len(octets))), prefix


def _ipv6(text: str) -> bytes | None:
    """Hexadecimal groups, one ``::``, maybe an IPv4 address at the end."""
    head, gap, tail = text.partition("::")
    if "::" in tail or (gap and tail.startswith(":")):
        return None
    upper = _ipv6_groups(head, not gap)
    lower = _ipv6_groups(tail, True) if gap else []
    if upper is None or lower is None:
        return None
    missing = 8 - len(upper) - len(lower)
    if (missing < 1 if gap else missing != 0) or (gap and missing == 0):
        return None
    groups = upper + [0] * missing + lower
    return b"".join([group.to_bytes(2, "big") for group in groups])


def _ipv6_groups(text: str, may_end_in_ipv4: bool) -> list[int] | None:
    if not text:
        return []
    groups: list[int] = []
    parts = text.split(":")
    for i, part in enumerate(parts):
        if "." in part and i == len(parts) - 1 and may_end_in_ipv4:
            data = _ipv4(part)
            if data is None or part.endswith("."):
                return None
            groups += [int.from_bytes(data[:2], "big"), int.from_bytes(data[2:], "big")]
        elif re.fullmatch(r"[0-9a-fA-F]{1,4}", part):
            groups.append(int(part, 16))
        else:
            return None
    return groups


def _ipv6_text(data: bytes) -> str:
    """The longest run of at least two zero groups becomes ``::``; mapped IPv4 keeps its dots."""
    groups = [int.from_bytes(data[i : i + 2], "big") for i in range(0, 16, 2)]
    best_start, best_length = -1, 1
    i = 0
    while i < 8:
        start = i
        while i < 8 and groups[i] == 0:
            i += 1
        if i - start > best_length:
            best_start, best_length = start, i - start
        i += 1
    is_mapped = best_start == 0 and (
        best_length == 6 or (best_length == 7 and groups[7] != 1) or (best_length == 5 and groups[5] == 0xFFFF)
    )
    parts = [f"{group:x}" for group in groups]
    if is_mapped:
        parts[6:] = [".".join(map(str, data[12:]))]
        best_length = min(best_length, 6)
    if best_start < 0:
        return ":".join(parts)
    return ":".join(parts[:best_start]) + "::" + ":".join(parts[best_start + best_length :])


# --- binary -----------------------------------------------------------------------------


def send_inet(value: str) -> bytes:
    data, prefix = split_address(value)
    return bytes([_FAMILY_4 if len(data) == 4 else _FAMILY_6, prefix, 0, len(data)]) + data


def send_cidr(value: str) -> bytes:
    data, prefix = split_address(value)
    return bytes([_FAMILY_4 if len(data) == 4 else _FAMILY_6, prefix, 1, len(data)]) + data


def receive_inet(data: bytes) -> str:
    return render_address(_receive(data, "inet"), False)


def receive_cidr(data: bytes) -> str:
    address = _receive(data, "cidr")
    if _has_host_bits(address):
        raise error("22P03", 'invalid external "cidr" value', detail="Value has bits set to right of mask.")
    return render_address(address, True)


def _receive(data: bytes, name: str) -> Address:
    if len(data) < 4:
        raise binary_too_short()
    family, prefix, _, size = data[:4]
    if family not in (_FAMILY_4, _FAMILY_6):
        raise error("22P03", f'invalid address family in external "{name}" value')
    length = 4 if family == _FAMILY_4 else 16
    if prefix > length * 8:
        raise error("22P03", f'invalid bits in external "{name}" value')
    if size != length:
        raise error("22P03", f'invalid length in external "{name}" value')
    if len(data) < 4 + length:
        raise binary_too_short()
    if len(data) > 4 + length:
        raise bad_binary()
    return data[4:], prefix
