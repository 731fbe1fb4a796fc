"""The arms that replies are measured under, as data: who sets the budget, and who reads again.

A cap that is no whole number is drawn for each question between its two neighbours, so that any
mean spend can be met. The draw is keyed by question and seed, never by order.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import assert_never

from metacog.decode.terms import NO_LIMIT
from metacog.eval.rows import RowKey

UNCAPPED = "uncapped"
GATED = "gated"
LEARNED = "learned"
PROMPT_ONLY = "prompt_only"
CHEAPEST_CONSTANT = "cheapest_constant"
MARGIN = 0.005
"""Loss of accuracy that a saving may cost: half a point."""
MATCHED = ("constant", "label", "permuted", "permuted_within")
"""Arms that spend what a learned arm spends; `learned.constant` is matched to `learned`."""


class Looking(StrEnum):
    """What the layer does inside THINK."""

    AWAY = "away"
    """It does not read there."""
    ON = "on"
    """It reads and changes nothing."""
    ACTING = "acting"
    """It reads and may lower the budget."""


@dataclass(frozen=True)
class Unlimited:
    """No budget: only the reply's limit binds."""


@dataclass(frozen=True)
class Automatic:
    """The reading's own budget."""


@dataclass(frozen=True)
class ConstantCap:
    """One cap for all."""

    tokens: float


@dataclass(frozen=True)
class FamilyCaps:
    """One cap for each family: what a family classifier could do."""

    tokens: Mapping[str, float]


@dataclass(frozen=True)
class PromptCaps:
    """A cap for each question and seed."""

    tokens: Mapping[RowKey, float]


Caps = Unlimited | Automatic | ConstantCap | FamilyCaps | PromptCaps


@dataclass(frozen=True)
class Arm:
    """A name, as rows carry it, and where the budget comes from."""

    name: str
    caps: Caps
    looking: Looking = Looking.AWAY

    def budget(self, question_id: str, family: str, seed: int) -> int | None:
        """Return the budget to ask the engine for: a number, -1 for no limit, None for `auto`."""
        match self.caps:
            case Unlimited():
                return NO_LIMIT
            case Automatic():
                return None
            case ConstantCap(tokens):
                return whole_cap(tokens, (question_id, seed))
            case FamilyCaps(by_family):
                return whole_cap(by_family[family], (question_id, seed))
            case PromptCaps(by_prompt):
                return whole_cap(by_prompt[question_id, seed], (question_id, seed))
            case _:
                assert_never(self.caps)


UNCAPPED_ARM = Arm(UNCAPPED, Unlimited(), Looking.ON)
"""The base's own thinking: no budget, no gate."""
GATED_ARM = Arm(GATED, Unlimited(), Looking.ON)
"""No budget, the gate in place: what the gate does by itself, and what budgets are measured on."""
LEARNED_ARM = Arm(LEARNED, Automatic(), Looking.ACTING)
PROMPT_ONLY_ARM = Arm(PROMPT_ONLY, Automatic())


def cap_arm(tokens: int) -> Arm:
    """Return the arm of one constant cap, as the curve of accuracy against spend is made of."""
    return Arm(f"cap.{tokens}", ConstantCap(float(tokens)))


def whole_cap(tokens: float, key: RowKey) -> int:
    """Return one of the two whole neighbours, the upper with the fraction as its probability."""
    low = math.floor(tokens)
    return low + (_draw(key) < tokens - low)


def _draw(key: RowKey) -> float:
    digest = hashlib.sha256(f"cap/{key[0]}/{key[1]}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def permuted(
    used: Mapping[RowKey, float], group_of: Mapping[RowKey, str], *, seed: int = 0
) -> dict[RowKey, float]:
    """Return the same numbers, shuffled over the prompts of a group within each sampling seed.

    With one group for all this is what the spends are worth without knowing whose they are; with
    families as groups, what is left of them once the family is known.
    """
    groups: dict[tuple[int, str], list[RowKey]] = {}
    for key in sorted(used):
        groups.setdefault((key[1], group_of[key]), []).append(key)
    found: dict[RowKey, float] = {}
    for (sampling_seed, group), keys in sorted(groups.items()):
        shuffled: Sequence[RowKey] = Random(f"{seed}/{sampling_seed}/{group}").sample(
            keys, len(keys)
        )
        found |= {key: used[other] for key, other in zip(keys, shuffled, strict=True)}
    return found
