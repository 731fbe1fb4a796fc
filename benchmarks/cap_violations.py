"""Counts cap violations in 10,000 generations: mixed budgets, plans, samplers and revisions.

    python -m benchmarks.cap_violations --generations 10000

Prints JSON. THINK ends where the closer's ids first stand among the emitted ids. A violation is a
reply whose THINK is longer than the lowest cap it had or than its report says, holds another number
of closers than one, or leaves less than the answer reserve.
"""

import argparse
import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

from metacog.data.tasks.questions import stream_questions
from metacog.data.tasks.splits import Split
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.eval.violations import think_length, violations
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import Generation, Request
from metacog.text.render import render

BUDGETS = (None, -1, 0, 1, 2, 7, 16, 33, 64, 128, 1000)
TEMPERATURES = (0.0, 0.6, 1.0, 1.5)
CHUNK = 2000


def requests(model: MetacogModel, count: int, seed: int) -> list[Request]:
    """Return requests that mix budgets, plans, temperatures and reply limits at random."""
    rng = Random(seed)
    plans = [None, *(model.reader.plans if model.reader else ())]
    made = []
    for index, question in enumerate(islice(stream_questions(Split.VALIDATION, seed=seed), count)):
        prompt = tuple(render(model.base.tokenizer, [{"role": "user", "content": question.text}]))
        request = request_for(
            model, prompt, request_id=index, budget=rng.choice(BUDGETS), plan=rng.choice(plans)
        )
        limit = rng.choice([40, 80, 200, request.max_new_tokens])
        temperature = rng.choice(TEMPERATURES)
        made.append(replace(request, temperature=temperature, max_new_tokens=limit, seed=seed))
    return made


def wrongs(reply: Generation, close: tuple[int, ...], reserve: int, limit: int) -> list[str]:
    """Return what is wrong with a reply."""
    room = max(0, limit - len(close) - reserve)
    length = think_length([step.token for step in reply.steps], close)
    miscounted = ["used is not what was written"] if length != reply.budget.used else []
    return violations(reply, close, room=room) + miscounted


def main() -> None:
    """Run and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=128)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    reserve = model.decoding.budget.answer_reserve
    close = model.base.tags.think_close
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for chunk in range(0, arguments.generations, CHUNK):
        size = min(CHUNK, arguments.generations - chunk)
        asked = {request.id: request for request in requests(model, size, chunk)}
        engine = Engine(model, engine_settings(model, rows=arguments.rows, debug=True))
        for reply in engine.generate(asked.values()):
            counts["generations"] += 1
            counts.update(wrongs(reply, close, reserve, asked[reply.request_id].max_new_tokens))
            reasons[str(reply.budget.close_reason)] += 1
    found = sum(counts.values()) - counts["generations"]
    print(json.dumps({"cap_violations": found, **counts, "close_reasons": reasons}, indent=2))


if __name__ == "__main__":
    main()
