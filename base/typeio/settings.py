"""What of a session decides how values are read and printed.

An ``IoSettings`` is immutable and hashable: encoders are cached per settings, and a plan is
keyed by them.  The current time is no setting; whoever reads ``'now'`` hands in ``now_us``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple

from base.errors import InternalError

DATE_STYLES: Final = {"iso": "ISO", "sql": "SQL", "postgres": "Postgres", "german": "German"}
DATE_ORDERS: Final = {
    "dmy": "DMY", "euro": "DMY", "european": "DMY", "mdy": "MDY", "us": "MDY", "noneuro": "MDY", "noneuropean": "MDY", "ymd": "YMD",
}  # fmt: skip
INTERVAL_STYLES: Final = ("postgres", "postgres_verbose", "sql_standard", "iso_8601")

NowUs = Callable[[], int]
"""Returns the transaction's start as a timestamptz datum."""


class RegResolver(ABC):
    """Names of catalog objects for the reg* types; implemented over the catalog."""

    @abstractmethod
    def name_of(self, type_oid: int, oid: int) -> str | None:
        """Returns the printed name of an object, or None if there is no such object."""

    @abstractmethod
    def oid_of(self, type_oid: int, name: str) -> int:
        """Returns the OID of a named object, or raises 42P01, 42704, 42883..."""


class IoSettings(NamedTuple):
    """The session parameters of input and output, as SHOW prints them."""

    datestyle: str = "ISO, MDY"
    intervalstyle: str = "postgres"
    timezone: str = "UTC"
    extra_float_digits: int = 1
    bytea_output: str = "hex"
    regs: RegResolver | None = None
    """Compared by identity; None reads and prints numbers only."""

    @property
    def date_format(self) -> str:
        """ISO, SQL, Postgres or German."""
        return self.datestyle.split(",")[0].strip()

    @property
    def date_order(self) -> str:
        """MDY, DMY or YMD."""
        return self.datestyle.split(",")[1].strip()


def datestyle_from_text(value: str, current: str = "ISO, MDY") -> str | None:
    """Returns the canonical DateStyle of ``SET datestyle = value``, or None if it is invalid or contradicts itself."""
    style, order = (part.strip() for part in current.split(","))
    styles: list[str] = []
    orders: list[str] = []
    for word in value.split(","):
        lowered = word.strip().strip("'\"").lower()
        if lowered in DATE_STYLES:
            styles.append(DATE_STYLES[lowered])
        elif lowered in DATE_ORDERS:
            orders.append(DATE_ORDERS[lowered])
        elif lowered == "default":
            styles.append("ISO")
            orders.append("MDY")
        else:
            return None
    if any(s != styles[0] for s in styles) or any(o != orders[0] for o in orders):
        return None
    if styles:
        style = styles[0]
        # German alone means day first, as everybody who writes it does.
        order = "DMY" if style == "German" and not orders else order
    return f"{style}, {orders[0] if orders else order}"


def no_time() -> int:
    """The ``now_us`` of callers whose text cannot hold 'now': constants of our own, golden tests."""
    raise InternalError("a value relative to the current time was read without a clock")
