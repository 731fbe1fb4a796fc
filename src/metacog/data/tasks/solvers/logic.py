"""Rewriting systems and counting from another's point of view."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_REWRITES = {
    ("A#", "#A"): [],
    ("B#", "#B"): [],
    ("A#", "#B"): ["#B", "A#"],
    ("B#", "#A"): ["#A", "B#"],
}


def ab(entry: Mapping[str, Any]) -> list[str]:
    """Rewrite the first pair of facing tokens until none is left, a line for each state."""
    program = entry["question"].split("following program:\n\n")[1].split("\n")[0].split()
    lines = []
    while (position := _first_facing(program)) is not None:
        pair = (program[position], program[position + 1])
        program = program[:position] + _REWRITES[pair] + program[position + 2 :]
        lines.append("".join(f" {token}" for token in program))
    return [*lines, " ".join(program)]


def _first_facing(program: list[str]) -> int | None:
    pairs = pairwise(program)
    return next((index for index, pair in enumerate(pairs) if pair in _REWRITES), None)


_COUNTS = re.compile(r"(\d+) (sisters|female friends|female colleagues)")


def aiw(entry: Mapping[str, Any]) -> list[str]:
    """Find how many women stand around the first woman and count her in."""
    found = _COUNTS.search(entry["question"])
    assert found is not None, f"no count of women in {entry['question']!r}"
    count = int(found[1])
    return [f"{count}+1={count + 1}", str(count + 1)]
