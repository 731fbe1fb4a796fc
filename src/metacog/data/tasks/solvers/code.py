"""What a short program would do: count bits, change the base of a number."""

from collections.abc import Mapping
from typing import Any

from metacog.data.tasks.solvers.math import division

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def count_bits(entry: Mapping[str, Any]) -> list[str]:
    """Halve until nothing is left; each line holds half and the count so far."""
    left, count, lines = entry["metadata"]["number"], 0, []
    while left:
        left, bit = divmod(left, 2)
        count += bit
        lines.append(f"{left},{count}")
    return [*lines, str(count)]


def base_conversion(entry: Mapping[str, Any]) -> list[str]:
    """Read the number by Horner's rule, then divide by the target base until nothing is left."""
    facts = entry["metadata"]
    value, lines = _read(facts["source_repr"], facts["source_base"])
    if facts["target_base"] == 10:
        return [*lines, str(value)]
    target, digits = facts["target_base"], ""
    while value:
        lines.append(division(value, target))
        digits = _DIGITS[value % target] + digits
        value //= target
    return [*lines, digits or "0"]


def _read(digits: str, base: int) -> tuple[int, list[str]]:
    if base == 10:
        return int(digits), []
    value, lines = _DIGITS.index(digits[0]), []
    for digit in digits[1:]:
        after = value * base + _DIGITS.index(digit)
        lines.append(f"{value}*{base}+{_DIGITS.index(digit)}={after}")
        value = after
    return value, lines
