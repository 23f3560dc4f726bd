"""inet and cidr: containment, parts, arithmetic.  PostgreSQL 15 manual: 9.12.

A datum is text as PostgreSQL prints it: an inet shows its prefix length unless it is the full one, a cidr always does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from base.errors import error
from planner.functions.declare import define, define_operator
from planner.functions.registry import Registry

PARSED_MAX: Final = 4096
"""Parsed addresses kept."""
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@lru_cache(PARSED_MAX)
def parse(value: str) -> Interface:
    return ipaddress.ip_interface(value)


def _inet(version: int, address: int, length: int) -> str:
    """An inet datum."""
    width = _width(version)
    if not 0 <= address < 1 << width:
        raise error("22003", "result is out of range")
    shown = str(ipaddress.IPv4Address(address) if version == 4 else ipaddress.IPv6Address(address))
    return shown if length == width else f"{shown}/{length}"


def _width(version: int) -> int:
    return 32 if version == 4 else 128


def _length(value: Interface) -> int:
    return value.network.prefixlen


def _is_inside(inner: str, outer: str, or_equal: bool) -> bool:
    a, b = parse(inner), parse(outer)
    if a.version != b.version or _length(a) < _length(b) or (not or_equal and _length(a) == _length(b)):
        return False
    shift = _width(a.version) - _length(b)
    return int(a.ip) >> shift == int(b.ip) >> shift


def is_subnet(left: str, right: str) -> bool:
    return _is_inside(left, right, False)


def is_subnet_or_equal(left: str, right: str) -> bool:
    return _is_inside(left, right, True)


def overlaps(left: str, right: str) -> bool:
    return _is_inside(left, right, True) or _is_inside(right, left, True)


def host(value: str) -> str:
    return str(parse(value).ip)


def network(value: str) -> str:
    return str(parse(value).network)


def netmask(value: str) -> str:
    return str(parse(value).netmask)


def hostmask(value: str) -> str:
    return str(parse(value).hostmask)


def broadcast(value: str) -> str:
    found = parse(value)
    return _inet(found.version, int(found.network.broadcast_address), _length(found))


def family(value: str) -> int:
    return parse(value).version


def masklen(value: str) -> int:
    return _length(parse(value))


def set_masklen(value: str, length: int) -> str:
    found = parse(value)
    if not -1 <= length <= _width(found.version):
        raise error("22023", f"invalid mask length: {length}")
    return _inet(found.version, int(found.ip), _width(found.version) if length == -1 else length)


def set_masklen_cidr(value: str, length: int) -> str:
    found = parse(value)
    if not -1 <= length <= _width(found.version):
        raise error("22023", f"invalid mask length: {length}")
    length = _width(found.version) if length == -1 else length
    return str(ipaddress.ip_interface(f"{found.ip}/{length}").network)


def abbreviate_cidr(value: str) -> str:
    """A network with trailing zero octets left out."""
    found = parse(value)
    if found.version == 6:
        return str(found.network)
    octets = str(found.network.network_address).split(".")
    kept = max(1, (_length(found) + 7) // 8)
    return f"{'.'.join(octets[:kept])}/{_length(found)}"


def same_family(left: str, right: str) -> bool:
    return family(left) == family(right)


def merge(left: str, right: str) -> str:
    """The smallest network that holds both."""
    a, b = parse(left), parse(right)
    if a.version != b.version:
        raise error("22023", "cannot merge addresses from different families")
    width = _width(a.version)
    length = min(_length(a), _length(b), width - (int(a.ip) ^ int(b.ip)).bit_length())
    return str(ipaddress.ip_interface(f"{a.ip}/{length}").network)


def add(value: str, offset: int) -> str:
    found = parse(value)
    return _inet(found.version, int(found.ip) + offset, _length(found))


def subtract(value: str, offset: int) -> str:
    return add(value, -offset)


def difference(left: str, right: str) -> int:
    a, b = parse(left), parse(right)
    if a.version != b.version:
        raise error("22023", "cannot subtract inet values of different sizes")
    result = int(a.ip) - int(b.ip)
    if not -(2**63) <= result < 2**63:
        raise error("22003", "result is out of range")
    return result


def bit_not(value: str) -> str:
    found = parse(value)
    return _inet(found.version, ~int(found.ip) & ((1 << _width(found.version)) - 1), _length(found))


def _bitwise(word: str, operation: Callable[[int, int], int]) -> Callable[[str, str], str]:
    def compute(left: str, right: str) -> str:
        a, b = parse(left), parse(right)
        if a.version != b.version:
            raise error("22023", f"cannot {word} inet values of different sizes")
        return _inet(a.version, operation(int(a.ip), int(b.ip)), max(_length(a), _length(b)))

    return compute


def register(registry: Registry) -> None:
    """Adds this family."""
    define_operator(registry, "<<", "network_sub(inet, inet) bool", is_subnet)
    define_operator(registry, "<<=", "network_subeq(inet, inet) bool", is_subnet_or_equal)
    define_operator(registry, ">>", "network_sup(inet, inet) bool", lambda left, right: is_subnet(right, left))
    define_operator(
        registry, ">>=", "network_supeq(inet, inet) bool", lambda left, right: is_subnet_or_equal(right, left)
    )
    define_operator(registry, "&&", "network_overlap(inet, inet) bool", overlaps)
    define_operator(registry, "~", "inetnot(inet) inet", bit_not)
    define_operator(registry, "&", "inetand(inet, inet) inet", _bitwise("AND", lambda a, b: a & b))
    define_operator(registry, "|", "inetor(inet, inet) inet", _bitwise("OR", lambda a, b: a | b))
    define_operator(registry, "+", "inetpl(inet, int8) inet", add)
    define_operator(registry, "+", "int8pl_inet(int8, inet) inet", lambda offset, value: add(value, offset))
    define_operator(registry, "-", "inetmi_int8(inet, int8) inet", subtract)
    define_operator(registry, "-", "inetmi(inet, inet) int8", difference)
    define(registry, "host(inet) text", host)
    define(registry, "network(inet) cidr", network)
    define(registry, "netmask(inet) inet", netmask)
    define(registry, "hostmask(inet) inet", hostmask)
    define(registry, "broadcast(inet) inet", broadcast)
    define(registry, "family(inet) int4", family)
    define(registry, "masklen(inet) int4", masklen)
    define(registry, "set_masklen(inet, int4) inet", set_masklen)
    define(registry, "set_masklen(cidr, int4) cidr", set_masklen_cidr)
    define(registry, "abbrev(inet) text", inline="{0}")
    define(registry, "abbrev(cidr) text", abbreviate_cidr)
    define(registry, "inet_same_family(inet, inet) bool", same_family)
    define(registry, "inet_merge(inet, inet) cidr", merge)
