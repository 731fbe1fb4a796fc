"""A frozen base's own rollouts of one split's questions, turned into features."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, stream_questions
from metacog.data.tasks.splits import Split
from metacog.decode.collect import Rollout, roll_out
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.text.render import render
from metacog.train.features import Features, extract, joined

Progress = Callable[[int, int, float], None]
"""Told how many of how many are done, and the seconds that are left."""

_WAVE = 1024
"""Prompts whose rollouts are made before their features are taken."""


def distinct_questions(
    split: Split, count: int, *, seed: int, families: Sequence[str] = tuple(FAMILIES)
) -> list[Question]:
    """Return this many different questions of a split, families and levels drawn alike."""
    found: dict[str, Question] = {}
    for question in stream_questions(split, seed=seed, families=families or tuple(FAMILIES)):
        found.setdefault(question.id, question)
        if len(found) == count:
            break
    return list(found.values())


def collect_features(
    model: MetacogModel,
    questions: Sequence[Question],
    *,
    seed: int,
    rows: int = 128,
    progress: Progress | None = None,
) -> Features:
    """Return the features of one uncapped rollout of each question, the gate as it is.

    Args:
        model: The base, with layer and gate where it has them.
        questions: What to ask.
        seed: Of the sampling noise.
        rows: Rollouts that run side by side.
        progress: Told after each wave.
    """
    # Exact values of prefixes stand for plain sampling: nothing may move the sampler.
    settings = engine_settings(model, rows=rows, revise=False)
    engine = Engine(model, replace(settings, opening=replace(settings.opening, modulation=None)))
    started = time.monotonic()
    parts: list[Features] = []
    for start in range(0, len(questions), _WAVE):
        wave = questions[start : start + _WAVE]
        rollouts = list(_uncapped(model, engine, wave, start, seed))
        parts += extract(
            model, rollouts, temperature=model.decoding.sampling.temperature, seed=seed + start
        )
        done = start + len(wave)
        if progress is not None:
            left = (time.monotonic() - started) / done * (len(questions) - done)
            progress(done, len(questions), left)
    return joined(parts)


def _uncapped(
    model: MetacogModel, engine: Engine, questions: Sequence[Question], first: int, seed: int
) -> Iterator[Rollout]:
    by_id = {first + index: question for index, question in enumerate(questions)}
    requests: list[Request] = []
    for index, question in by_id.items():
        prompt = render(model.base.tokenizer, [{"role": "user", "content": question.text}])
        request = request_for(model, tuple(prompt), request_id=index, budget=NO_LIMIT, seed=seed)
        requests.append(replace(request, top_p=1.0, repetition_penalty=1.0))
    requests.sort(key=lambda request: len(request.prompt))
    yield from roll_out(engine.generate, model.base, by_id, requests)
