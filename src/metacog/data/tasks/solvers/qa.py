"""Questions over facts: who is related to whom, how many legs a list of animals has.

Lines that begin with a word of the question begin with a space, so that the word is the same token.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from reasoning_gym.arithmetic.leg_counting import ANIMALS
from reasoning_gym.graphs.family_relationships import FamilyRelationshipsConfig

_MALE = frozenset(FamilyRelationshipsConfig().male_names)
_STEP_NAMES = {
    "parent": ("father", "mother"),
    "child": ("son", "daughter"),
    "spouse": ("husband", "wife"),
}
_RELATIONS = {
    ("parent",): ("father", "mother"),
    ("child",): ("son", "daughter"),
    ("spouse",): ("husband", "wife"),
    ("parent", "parent"): ("grandfather", "grandmother"),
    ("parent", "child"): ("brother", "sister"),
    ("spouse", "parent"): ("father-in-law", "mother-in-law"),
    ("parent", "parent", "child"): ("uncle", "aunt"),
    ("parent", "parent", "child", "spouse"): ("uncle", "aunt"),
    ("parent", "child", "child"): ("nephew", "niece"),
    ("spouse", "parent", "child", "child"): ("nephew", "niece"),
}
_COUPLE = re.compile(
    r"(\w+) is married to (\w+)\.(?: They have (?:a child|children) called ([^.]+)\.)?"
)

Kin = dict[str, list[tuple[str, str]]]


def family_relationships(entry: Mapping[str, Any]) -> list[str]:
    """Walk from the second person to the first, a line for each hop; the hops name the relation."""
    facts = entry["metadata"]
    hops = _shortest_walk(_kin(entry["question"]), facts["person2"], facts["person1"])
    lines, person = [], facts["person2"]
    for step, other in hops:
        lines.append(f" {person} {_gendered(_STEP_NAMES[step], other)} {other}")
        person = other
    relation = _RELATIONS.get(tuple(step for step, _ in hops))
    return [*lines, _gendered(relation, person) if relation else "unknown"]


def _gendered(names: tuple[str, str], person: str) -> str:
    return names[0] if person in _MALE else names[1]


def _kin(story: str) -> Kin:
    kin: Kin = {}
    for first, second, children in _COUPLE.findall(story):
        kin.setdefault(first, []).append(("spouse", second))
        kin.setdefault(second, []).append(("spouse", first))
        for child in re.findall(r"\w+", children.replace(" and ", " ")):
            kin.setdefault(child, []).extend([("parent", first), ("parent", second)])
            kin.setdefault(first, []).append(("child", child))
            kin.setdefault(second, []).append(("child", child))
    return kin


def _shortest_walk(kin: Kin, start: str, goal: str) -> list[tuple[str, str]]:
    queue: deque[tuple[str, list[tuple[str, str]]]] = deque([(start, [])])
    seen = {start}
    while queue:
        person, walk = queue.popleft()
        if person == goal:
            return walk
        for step, other in sorted(kin.get(person, [])):
            if other not in seen:
                seen.add(other)
                queue.append((other, [*walk, (step, other)]))
    return []


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
