"""The question families: where each comes from, its domain and its eight levels of difficulty.

Levels 0 to 3 are the easier half; the last levels reach beyond what the bundled base can do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Domain(StrEnum):
    """What kind of thinking a family asks for."""

    MATH = "math"
    LOGIC = "logic"
    CODE = "code"
    QA = "qa"


NUM_LEVELS = 8
"""Levels in every family."""


@dataclass(frozen=True)
class Family:
    """One reasoning-gym dataset with its settings at each level of difficulty."""

    name: str
    domain: Domain
    levels: Sequence[Mapping[str, int]]

    def __post_init__(self) -> None:
        assert len(self.levels) == NUM_LEVELS, f"{self.name} has {len(self.levels)} levels."


def _spans(low: str, high: str, spans: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    return [{low: first, high: last} for first, last in spans]


def _merged(*columns: Sequence[Mapping[str, int]]) -> list[dict[str, int]]:
    return [{k: v for part in row for k, v in part.items()} for row in zip(*columns, strict=True)]


_CHAIN_SUM = Family(
    "chain_sum",
    Domain.MATH,
    _merged(
        _spans(
            "min_terms",
            "max_terms",
            [(2, 2), (2, 3), (3, 4), (2, 3), (4, 5), (3, 5), (5, 7), (6, 8)],
        ),
        _spans(
            "min_digits",
            "max_digits",
            [(1, 2), (1, 2), (1, 2), (2, 3), (2, 2), (3, 3), (3, 3), (4, 5)],
        ),
    ),
)
_GCD = Family(
    "gcd",
    Domain.MATH,
    _spans(
        "min_value",
        "max_value",
        [(2, 40), (2, 60), (5, 80), (5, 110), (20, 300), (50, 500), (100, 999), (500, 3000)],
    ),
)
_PRIME_FACTORIZATION = Family(
    "prime_factorization",
    Domain.MATH,
    _spans(
        "min_value",
        "max_value",
        [
            (2, 200),
            (20, 300),
            (50, 400),
            (100, 500),
            (400, 1000),
            (800, 1600),
            (1500, 3000),
            (3000, 9999),
        ],
    ),
)
_AB = Family("ab", Domain.LOGIC, [{"length": n} for n in (5, 6, 6, 7, 8, 9, 11, 14)])
_AIW = Family(
    "aiw",
    Domain.LOGIC,
    [{"max_entities": n} for n in (12, 20, 35, 50, 99, 300, 999, 9999)],
)
_COUNT_BITS = Family(
    "count_bits",
    Domain.CODE,
    _spans(
        "min_n",
        "max_n",
        [
            (1, 150),
            (20, 300),
            (50, 600),
            (100, 1200),
            (1000, 8000),
            (5000, 60000),
            (30000, 600000),
            (500000, 20000000),
        ],
    ),
)
_BASE_CONVERSION = Family(
    "base_conversion",
    Domain.CODE,
    _spans(
        "min_value",
        "max_value",
        [(2, 40), (5, 60), (10, 90), (10, 120), (50, 350), (100, 600), (300, 1500), (1000, 9999)],
    ),
)
_LEG_COUNTING = Family(
    "leg_counting",
    Domain.QA,
    _merged(
        _spans(
            "min_animals",
            "max_animals",
            [(1, 2), (2, 3), (2, 3), (3, 4), (3, 6), (5, 7), (6, 9), (8, 12)],
        ),
        _spans(
            "min_instances",
            "max_instances",
            [(1, 5), (1, 5), (1, 9), (1, 9), (1, 15), (1, 15), (5, 20), (5, 40)],
        ),
    ),
)

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        _CHAIN_SUM,
        _GCD,
        _PRIME_FACTORIZATION,
        _AB,
        _AIW,
        _COUNT_BITS,
        _BASE_CONVERSION,
        _LEG_COUNTING,
    )
}
