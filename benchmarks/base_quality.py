"""How good a base is before any layer: right answers by family, and what a forced close does.

    python -m benchmarks.base_quality nano --n 1008

Greedy, on held-out questions of the validation split, families and levels in turn. Every reply is
made twice: without a cap, and closed at a line end of the first drawn at random. Prints JSON:
accuracy of the easier and the harder half of each family, over all, mean THINK tokens, and how many
replies escape (reasoning in the answer, a tag, no answer, or an answer that runs on) when THINK is
closed by force.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.decode.collect import line_cuts
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.eval.rows import EvalRow, row_of
from metacog.eval.setup import answer_reader
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import Generation, Request
from metacog.text.render import render


def mean(values: Iterable[float]) -> float | None:
    """Return the mean, or None of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else None


def greedy(model: MetacogModel, questions: Mapping[int, Question]) -> list[Request]:
    """Return an uncapped request for each question."""
    found = []
    for number, question in questions.items():
        prompt = tuple(render(model.base.tokenizer, [{"role": "user", "content": question.text}]))
        found.append(
            request_for(model, prompt, request_id=number, budget=NO_LIMIT, temperature=0.0)
        )
    return sorted(found, key=lambda request: len(request.prompt))


def cut_at_a_line(
    requests: Iterable[Request], replies: Mapping[int, Generation], ends: frozenset[int]
) -> list[Request]:
    """Return the requests again, each with a budget that ends at a line end before the last."""
    rng = Random(0)
    found = []
    for request in requests:
        cuts = line_cuts(replies[request.id].think, ends)[1:-1]
        if cuts:
            found.append(replace(request, budget=rng.choice(cuts)))
    return found


def rows_of(
    model: MetacogModel, questions: Mapping[int, Question], replies: Iterable[Generation], arm: str
) -> list[EvalRow]:
    """Return a row for each reply."""
    reader = answer_reader(model.base)
    return [row_of(r, questions[r.request_id], reader, arm=arm, seed=0) for r in replies]


def by_family(rows: Iterable[EvalRow]) -> dict[str, dict[str, float | None]]:
    """Return accuracy of both halves of each family and its mean THINK tokens."""
    grouped: dict[str, list[EvalRow]] = defaultdict(list)
    for row in rows:
        grouped[row.family].append(row)
    return {
        name: {
            "easier": mean(r.correct for r in grouped[name] if r.level < NUM_LEVELS // 2),
            "harder": mean(r.correct for r in grouped[name] if r.level >= NUM_LEVELS // 2),
            "think_tokens": mean(r.used for r in grouped[name]),
        }
        for name in FAMILIES
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--n", type=int, default=1008)
    arguments = parser.parse_args()
    loaded = load_model(arguments.model)
    model = MetacogModel(loaded.base, decoding=loaded.decoding)
    engine = Engine(model, engine_settings(model, rows=128))
    questions = dict(enumerate(draw_questions(Split.VALIDATION, arguments.n)))
    requests = greedy(model, questions)
    replies = {reply.request_id: reply for reply in engine.generate(requests)}
    uncapped = rows_of(model, questions, replies.values(), "uncapped")
    cut = cut_at_a_line(requests, replies, model.base.tags.line_ends)
    forced = rows_of(model, questions, engine.generate(cut), "cut")
    result = {
        "base_sha256": model.base.digest,
        "n": len(uncapped),
        "accuracy": mean(row.correct for row in uncapped),
        "think_tokens": mean(row.used for row in uncapped),
        "closed_by_itself": mean(row.close_reason == "natural" for row in uncapped),
        "escapes": mean(row.escaped for row in uncapped),
        "forced_n": len(forced),
        "forced_accuracy": mean(row.correct for row in forced),
        "forced_escapes": mean(row.escaped for row in forced),
        "families": by_family(uncapped),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
