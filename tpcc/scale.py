"""How many rows of each kind (clauses 1.2.1 and 4.3.3.1)."""

from __future__ import annotations

from typing import Final

import msgspec

DISTRICTS_PER_WAREHOUSE: Final = 10
ITEMS: Final = 100_000
CUSTOMERS_PER_DISTRICT: Final = 3_000
UNDELIVERED_PER_DISTRICT: Final = 900
LAST_NAMES: Final = 1_000
"""Three syllables of ten (4.3.2.3)."""

ORDER_LINES_MIN: Final = 5
ORDER_LINES_MAX: Final = 15

DIVISOR_MAX: Final = 100
"""Of the reduced scale for tests: at least 30 customers in a district."""


class Scale(msgspec.Struct, frozen=True):
    """Cardinalities; the default is the standard's, anything else is not TPC-C.

    A district has as many orders as customers: each customer placed one (4.3.3.1).
    """

    items: int = ITEMS
    customers: int = CUSTOMERS_PER_DISTRICT
    undelivered: int = UNDELIVERED_PER_DISTRICT

    @property
    def delivered(self) -> int:
        """Orders of a district that the population has delivered: 2,100."""
        return self.customers - self.undelivered

    @property
    def last_names(self) -> int:
        """Different last names there are in a district."""
        return min(LAST_NAMES, self.customers)

    @property
    def is_compliant(self) -> bool:
        return self == Scale()


def reduced(divisor: int) -> Scale:
    """Returns a scale for tests of this runner; nothing measured with it is TPC-C."""
    assert 1 <= divisor <= DIVISOR_MAX, f"{divisor=}"
    return Scale(ITEMS // divisor, CUSTOMERS_PER_DISTRICT // divisor, UNDELIVERED_PER_DISTRICT // divisor)
