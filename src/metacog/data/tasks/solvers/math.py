"""Arithmetic: running sums, Euclid's algorithm, trial division."""

from collections.abc import Mapping
from typing import Any


def division(dividend: int, divisor: int) -> str:
    """Return one line of division with remainder, e.g. `37:5=7r2`."""
    quotient, remainder = divmod(dividend, divisor)
    return f"{dividend}:{divisor}={quotient}r{remainder}"


def chain_sum(entry: Mapping[str, Any]) -> list[str]:
    """Add and subtract from left to right, a line for each operation."""
    first, *rest = entry["metadata"]["expression"].split()
    total, lines = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        value = total + int(term) if sign == "+" else total - int(term)
        lines.append(f"{total}{sign}{term}={value}")
        total = value
    return [*lines, str(total)]


def gcd(entry: Mapping[str, Any]) -> list[str]:
    """Run Euclid's algorithm on two numbers, a line for each division."""
    left, right = entry["metadata"]["numbers"]
    lines = []
    while right:
        lines.append(division(left, right))
        left, right = right, left % right
    return [*lines, str(left)]


def prime_factorization(entry: Mapping[str, Any]) -> list[str]:
    """Divide by 2, 3, 5, ... until the square of the divisor exceeds what is left.

    A line holds divisor, quotient and remainder; what is divided is the last exact quotient.
    """
    left, divisor = entry["metadata"]["number"], 2
    lines, factors = [], []
    while divisor * divisor <= left:
        lines.append(f"{divisor}={left // divisor}r{left % divisor}")
        if left % divisor:
            divisor = _next_prime(divisor)
        else:
            factors.append(divisor)
            left //= divisor
    factors.append(left)
    return [*lines, " × ".join(map(str, factors))]


def _next_prime(number: int) -> int:
    candidate = number + 1
    while any(candidate % d == 0 for d in range(2, int(candidate**0.5) + 1)):
        candidate += 1
    return candidate
