"""Counts cap violations in 10,000 generations: mixed budgets, plans, samplers and revisions.

    python benchmarks/cap_violations.py --generations 10000

Prints JSON. A violation is a reply that spends more THINK tokens than its enforced budget, holds
another number of closers than one, or leaves less than the answer reserve.
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
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import Generation, Request, Segment
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


def violations(reply: Generation, close: int, reserve: int, limit: int) -> list[str]:
    """Return what is wrong with a reply."""
    wrong = []
    budget = reply.budget
    if len(reply.think) != budget.used:
        wrong.append("used is not what was written")
    if budget.enforced is not None and budget.used > budget.enforced:
        wrong.append("over the cap")
    closers = sum(step.segment is Segment.CLOSE for step in reply.steps)
    if closers != 1 or sum(step.token == close for step in reply.steps) != 1:
        wrong.append("not exactly one closer")
    if budget.used + 1 + min(reserve, limit - 1) > limit:
        wrong.append("answer reserve not kept")
    return wrong


def main() -> None:
    """Run and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=128)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    reserve = model.decoding.budget.answer_reserve
    (close,) = model.base.tags.think_close
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for chunk in range(0, arguments.generations, CHUNK):
        size = min(CHUNK, arguments.generations - chunk)
        asked = {request.id: request for request in requests(model, size, chunk)}
        engine = Engine(model, engine_settings(model, rows=arguments.rows, debug=True))
        for reply in engine.generate(asked.values()):
            counts["generations"] += 1
            counts.update(violations(reply, close, reserve, asked[reply.request_id].max_new_tokens))
            reasons[str(reply.budget.close_reason)] += 1
    found = sum(counts.values()) - counts["generations"]
    print(json.dumps({"cap_violations": found, **counts, "close_reasons": reasons}, indent=2))


if __name__ == "__main__":
    main()
