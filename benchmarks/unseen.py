"""What a model says of questions of families that it was never trained on.

    python -m benchmarks.unseen nano --n 300

Two arms over families of reasoning-gym that are not the package's own: without a budget, and under the
learned ones. Prints JSON: accuracy, THINK and ANSWER tokens, mean confidence at the prompt, how
well it ranks replies, and the share of prompts that are called unfamiliar, for each family and over all. A base that fails says nothing for or against
its layer but this: confidence should fall with it.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import reasoning_gym

from metacog.data.tasks.families import FAMILIES
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.eval import metrics
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import UNFAMILIAR, Generation
from metacog.text.render import render

UNSEEN = (
    "lcm",
    "basic_arithmetic",
    "products",
    "fraction_simplification",
    "number_sorting",
    "letter_counting",
    "spell_backward",
    "knights_knaves",
    "syllogism",
)


@dataclass(frozen=True)
class Answered:
    """A reply and whether it is right."""

    family: str
    right: bool
    reply: Generation


def entries_of(family: str, n: int, seed: int) -> list[dict[str, Any]]:
    """Return the first n items of a family as reasoning-gym draws them by default."""
    return list(reasoning_gym.create_dataset(family, size=n, seed=seed))


def answered(
    model: MetacogModel, families: Sequence[str], n: int, seed: int, *, learned: bool
) -> list[Answered]:
    """Return a reply to each question of each family."""
    asked = [(family, entry) for family in families for entry in entries_of(family, n, seed)]
    limit = model.decoding.budget.max_tokens + 64
    requests = [
        request_for(
            model,
            tuple(render(model.base.tokenizer, [{"role": "user", "content": entry["question"]}])),
            request_id=number,
            budget=None if learned else NO_LIMIT,
            seed=seed,
        )
        for number, (_, entry) in enumerate(asked)
    ]
    room = model.base.context - limit
    fitting = [request for request in requests if len(request.prompt) <= room]
    engine = Engine(model, engine_settings(model, rows=128, revise=None if learned else False))
    return [
        Answered(asked[reply.request_id][0], _right(model, *asked[reply.request_id], reply), reply)
        for reply in engine.generate(sorted(fitting, key=lambda request: len(request.prompt)))
    ]


def _right(model: MetacogModel, family: str, entry: dict[str, Any], reply: Generation) -> bool:
    scorer = reasoning_gym.get_score_answer_fn(family)
    text = model.base.decode(reply.answer).strip()
    try:
        return bool(scorer(answer=text, entry=entry) == 1.0)
    except (ValueError, ArithmeticError, LookupError):
        return False  # some scorers raise on what they can't read


def figures(replies: Iterable[Answered]) -> dict[str, float | int | None]:
    """Return what some replies come to."""
    kept = list(replies)
    read = [(a.reply.reading.confidence, a.right) for a in kept if a.reply.reading is not None]
    return {
        "n": len(kept),
        "accuracy": metrics.mean(a.right for a in kept),
        "think_tokens": metrics.mean(a.reply.budget.used for a in kept),
        "spend": metrics.mean(a.reply.spend for a in kept),
        "confidence": metrics.mean(confidence for confidence, _ in read),
        "auroc": metrics.auroc([c for c, _ in read], [right for _, right in read]),
        "brier": metrics.brier([c for c, _ in read], [right for _, right in read]),
        "unfamiliar": metrics.mean(
            a.reply.reading.familiarity < UNFAMILIAR
            for a in kept
            if a.reply.reading is not None and a.reply.reading.familiarity is not None
        ),
        "unfinished": metrics.mean(not a.reply.finished for a in kept),
    }


def main() -> None:
    """Ask and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=300, help="questions of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", default=list(UNSEEN))
    given = parser.parse_args()
    seen = sorted(set(given.families) & set(FAMILIES))
    if seen:
        parser.error(f"wanted families that the package does not train on, got {', '.join(seen)}")
    model = load_model(given.model)
    told: dict[str, Any] = {"n": given.n, "seed": given.seed}
    for arm, learned in (("uncapped", False), ("learned", True)):
        found = answered(model, given.families, given.n, given.seed, learned=learned)
        told[arm] = {"all": figures(found)} | {
            family: figures(a for a in found if a.family == family) for family in given.families
        }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
