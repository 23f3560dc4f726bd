"""Randomness as clauses 2.1.6 and 4.3.2 define it.

    NURand(A, x, y) = (((random(0, A) | random(x, y)) + C) % (y - x + 1)) + x

A names the field: 255 for last names, 1023 for customers, 8191 for items. C is a constant per field, drawn once. The C of
last names differs between population and run by a distance that 2.1.6.1 prescribes, so that the hot names of the run are not those
of the population.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

A_LAST_NAME: Final = 255
A_CUSTOMER: Final = 1023
A_ITEM: Final = 8191

C_DISTANCE_MIN: Final = 65
C_DISTANCE_MAX: Final = 119
C_DISTANCES_FORBIDDEN: Final = (96, 112)

SYLLABLES: Final = ("BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING")

ALPHANUMERIC: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
DIGITS: Final = b"0123456789"
BLOCK_BYTES: Final = 1 << 16


class Constants(msgspec.Struct, frozen=True):
    """The C of each NURand field."""

    last_name: int
    customer: int
    item: int


def load_constants(seed: int) -> Constants:
    """The constants of a population: derivable from its seed, and recorded with it."""
    return _draw_constants(Random(f"{seed}/constants/load"))


def run_constants(seed: int, last_name_of_load: int) -> Constants:
    """Constants of a run whose last name constant is at a lawful distance (2.1.6.1)."""
    rng = Random(f"{seed}/constants/run")
    drawn = _draw_constants(rng)
    lawful = [c for c in range(A_LAST_NAME + 1) if is_lawful_distance(abs(c - last_name_of_load))]
    return Constants(rng.choice(lawful), drawn.customer, drawn.item)


def is_lawful_distance(distance: int) -> bool:
    return C_DISTANCE_MIN <= distance <= C_DISTANCE_MAX and distance not in C_DISTANCES_FORBIDDEN


def _draw_constants(rng: Random) -> Constants:
    return Constants(rng.randint(0, A_LAST_NAME), rng.randint(0, A_CUSTOMER), rng.randint(0, A_ITEM))


def uniform(rng: Random, low: int, high: int) -> int:
    """Returns an integer in [low, high]; four times as fast as randint, and as even for ranges far below 2**53."""
    return low + int(rng.random() * (high - low + 1))


def nurand(rng: Random, a: int, c: int, low: int, high: int) -> int:
    """The non-uniform random function of clause 2.1.6."""
    return ((uniform(rng, 0, a) | uniform(rng, low, high)) + c) % (high - low + 1) + low


def last_name(number: int) -> str:
    """The name of a number in [0, 999]: a syllable for each digit (4.3.2.3)."""
    assert 0 <= number <= 999, f"{number=}"
    return SYLLABLES[number // 100] + SYLLABLES[number // 10 % 10] + SYLLABLES[number % 10]


class RandomText:
    """A stream of evenly distributed characters, cut into strings.

    Bytes that would make some characters likelier than others are dropped, not wrapped. Text is drawn in blocks because a
    warehouse needs 60 million characters.
    """

    def __init__(self, rng: Random, alphabet: bytes = ALPHANUMERIC) -> None:
        fair = 256 - 256 % len(alphabet)
        self._rng = rng
        self._table = bytes(alphabet[i % len(alphabet)] for i in range(256))
        self._unfair = bytes(range(fair, 256))
        self._block = ""
        self._at = 0

    def fixed(self, length: int) -> str:
        """Returns a string of this length."""
        end = self._at + length
        while end > len(self._block):
            drawn = self._rng.randbytes(BLOCK_BYTES).translate(self._table, self._unfair)
            self._block = self._block[self._at :] + drawn.decode("ascii")
            self._at, end = 0, length
        text = self._block[self._at : end]
        self._at = end
        return text

    def between(self, shortest: int, longest: int) -> str:
        """A random a-string [shortest .. longest] (4.3.2.2)."""
        return self.fixed(uniform(self._rng, shortest, longest))
