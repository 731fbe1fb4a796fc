"""Traces: how a solver's lines become thinking with a plan, work, checks and re-derivations.

What a plan does with the lines of work:

    direct      nothing is written; only where at most two lines would be
    outline     the lines once
    decompose   the lines once, then the second half of them again
    verify      the lines, then all of them again one to three times

A first derivation holds a slip now and then (never trained on); a check that finds another
result says `no` and derives once more, so that checking has a use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from metacog.text.tags import EVAL, EXEC, PLAN_NAMES, plan_mark

_SHORT = 2
_PLAN_WEIGHTS_SHORT = (0.25, 0.30, 0.25, 0.20)
_PLAN_WEIGHTS = (0.0, 0.45, 0.30, 0.25)
_REPEATS = (1, 2, 3)
_REPEAT_WEIGHTS = (0.75, 0.2, 0.05)
_SLIP_SHARE = 0.12
_WRONG_RESULT_SHARE = 0.10


@dataclass(frozen=True)
class Piece:
    """A stretch of a trace and whether the base is trained to write it."""

    text: str
    trained: bool = True


def choose_plan(lines: Sequence[str], rng: Random, *, may_be_direct: bool = True) -> str:
    """Draw a plan; `direct` only where there is hardly any work to write down."""
    is_short = may_be_direct and len(lines) - 1 <= _SHORT
    weights = _PLAN_WEIGHTS_SHORT if is_short else _PLAN_WEIGHTS
    return rng.choices(PLAN_NAMES, weights)[0]


def think(lines: Sequence[str], plan: str, rng: Random) -> list[Piece]:
    """Return what stands between the marks of THINK for a solver's lines under a plan."""
    *work, answer = lines
    pieces = [Piece(plan_mark(plan))]
    if plan == "direct":
        return pieces
    first = answer
    if plan == "verify" and rng.random() < _WRONG_RESULT_SHARE:
        first = _slip(answer, rng)
    wrong = first != answer
    pieces += _derivation(EXEC.open, work, first, rng, result_trained=not wrong)
    pieces.append(Piece(f"{EXEC.close}\n"))
    match plan:
        case "decompose":
            pieces += _check(work[len(work) // 2 :], answer, agrees=True)
        case "verify":
            if wrong:
                pieces += _check(work, answer, agrees=False)
            for _ in range(rng.choices(_REPEATS, _REPEAT_WEIGHTS)[0]):
                pieces += _check(work, answer, agrees=True)
    return pieces


def _derivation(
    opener: str, work: Sequence[str], result: str, rng: Random, *, result_trained: bool
) -> list[Piece]:
    slip = rng.randrange(len(work)) if work and rng.random() < _SLIP_SHARE else None
    pieces = [Piece(opener)]
    for index, line in enumerate(work):
        written = _slip(line, rng) if index == slip else line
        pieces.append(Piece(f"{written}\n", trained=written == line))
    return [*pieces, Piece(f">{result}\n", trained=result_trained)]


def _check(work: Sequence[str], answer: str, *, agrees: bool) -> list[Piece]:
    body = "".join(f"{line}\n" for line in work)
    verdict = "ok" if agrees else "no"
    return [Piece(f"{EVAL.open}{body}>{answer}\n{verdict}\n{EVAL.close}\n")]


def _slip(line: str, rng: Random) -> str:
    """Return the line with one digit changed or its words turned; a single word stays."""
    places = [index for index, char in enumerate(line) if char.isdigit()]
    if not places:
        words = line.split(" ")
        return " ".join(words[1:] + words[:1])
    place = rng.choice(places)
    digit = rng.choice([d for d in "0123456789" if d != line[place]])
    return line[:place] + digit + line[place + 1 :]
