"""Configuration: defaults, then a TOML file, then MERIDIAN_* variables, then flags.

store = "meridian-data"
listen = "127.0.0.1:26257"
http = "127.0.0.1:8080"
insecure = false
locality = "region=eu-west,zone=a"
[settings]           # defaults of SQL parameters
statement_timeout = "30s"
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

PREFIX: Final = "MERIDIAN_"


class ConfigError(Exception):
    """What is wrong with the configuration, and where it was said."""


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything a node can be told."""

    store: str = "meridian-data"
    listen: str = "127.0.0.1:26257"
    http: str = "127.0.0.1:8080"
    """Address of /healthz and /metrics; "" turns it off."""
    insecure: bool = False
    """No TLS and no passwords; only on loopback addresses."""
    locality: str = ""
    certificate: str = ""
    """PEM files of the server's own; made and kept in the store if not given."""
    key: str = ""
    max_connections: int = 500
    cache_mb: int = 512
    """Block cache of the storage engine."""
    log_format: str = "console"
    """console or json."""
    log_level: str = "info"
    drain_seconds: float = 10.0
    settings: dict[str, str] = {}
    """Defaults of SQL parameters, as ALTER SYSTEM would set them."""


def load(path: str | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """Merges the four sources; raises ConfigError naming the key that is wrong."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values.update(tomllib.loads(Path(path).read_text()))
        except OSError as problem:
            raise ConfigError(f"cannot read {path}: {problem.strerror}") from None
        except tomllib.TOMLDecodeError as problem:
            raise ConfigError(f"{path}: {problem}") from None
    for name in Config.__struct_fields__:
        text = environ.get(PREFIX + name.upper())
        if text is not None and name != "settings":
            values[name] = text
    values.update({name: value for name, value in flags.items() if value is not None})
    try:
        config = msgspec.convert(values, Config, strict=False)
    except msgspec.ValidationError as problem:
        raise ConfigError(str(problem)) from None
    check(config)
    return config


def address(text: str) -> tuple[str, int]:
    """Splits ``host:port``; a bare port listens on loopback."""
    host, separator, port = text.rpartition(":")
    host = host.strip("[]") if separator else "127.0.0.1"
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f'"{text}" is not an address: expected host:port')
    return host or "0.0.0.0", int(port)  # noqa: S104  # an empty host was asked for


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_locality(text: str) -> tuple[tuple[str, str], ...]:
    """``region=eu-west,zone=a`` in order from the widest tier."""
    tiers = []
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise ConfigError(f'"{part}" is not a locality tier: expected key=value')
        tiers.append((key.strip(), value.strip()))
    return tuple(tiers)


def check(config: Config) -> None:
    """Refuses what would be unsafe or cannot work."""
    host, _ = address(config.listen)
    if config.http:
        http_host, _ = address(config.http)
        if not is_loopback(http_host):
            raise ConfigError("the HTTP port has no authentication yet and listens on loopback addresses only")
    if config.insecure and not is_loopback(host):
        raise ConfigError(f"--insecure on {host} would let anybody in; it is allowed on loopback addresses only")
    parse_locality(config.locality)
    if bool(config.certificate) != bool(config.key):
        raise ConfigError("certificate and key must be given together")
    if config.log_format not in ("console", "json"):
        raise ConfigError(f'log_format must be "console" or "json", not "{config.log_format}"')
    if config.max_connections < 4:
        raise ConfigError("max_connections must be at least 4")


def from_environment(path: str | None, flags: Mapping[str, Any]) -> Config:
    return load(path, os.environ, flags)
