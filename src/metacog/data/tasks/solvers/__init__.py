"""Solvers of our own: for each family the lines of work that lead to the answer."""

from collections.abc import Callable, Mapping
from typing import Any

from metacog.data.tasks.solvers import code, logic, math, qa

Solver = Callable[[Mapping[str, Any]], list[str]]
"""Takes a reasoning-gym entry and returns the lines of work, the answer last."""

SOLVERS: Mapping[str, Solver] = {
    "chain_sum": math.chain_sum,
    "gcd": math.gcd,
    "prime_factorization": math.prime_factorization,
    "ab": logic.ab,
    "aiw": logic.aiw,
    "count_bits": code.count_bits,
    "base_conversion": code.base_conversion,
    "leg_counting": qa.leg_counting,
}
