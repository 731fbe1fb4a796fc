"""Questions over facts that everyone knows: how many legs a list of animals has.

Lines that begin with a word of the question begin with a space, so that the word is the same token.
"""

import re
from collections.abc import Mapping
from typing import Any

from reasoning_gym.arithmetic.leg_counting import ANIMALS

_COUNTED = re.compile(r"(\d+) ([a-z ]+?)(?=,|\?)")


def leg_counting(entry: Mapping[str, Any]) -> list[str]:
    """Multiply count by legs, skipping animals without; a line ends with the sum so far."""
    total, lines = 0, []
    for count, animal in _COUNTED.findall(entry["question"].split("if you have ")[1]):
        legs = ANIMALS[animal] if animal in ANIMALS else ANIMALS[animal.removesuffix("s")]
        if legs == 0:
            continue
        product = int(count) * legs
        total += product
        lines.append(f" {animal} {count}*{legs}={product},{total}")
    return [*lines, str(total)]
