"""A frozen base's own rollouts of one split's questions, turned into features."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout, roll_out
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for, unmodulated
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.text.render import render
from metacog.train.features import Features, extract, joined

Progress = Callable[[int, int, float], None]
"""Told how many prompts of how many are done, and the seconds that are left."""

_WAVE = 1024
"""Prompts whose rollouts are made before anything is made of them."""


def collect_features(
    model: MetacogModel,
    questions: Sequence[Question],
    *,
    seed: int,
    rollouts: int = 1,
    every_token: bool = False,
    rows: int = 128,
    progress: Progress | None = None,
) -> Features:
    """Return the features of uncapped rollouts of each question, the gate as it is.

    Args:
        model: The base, with layer and gate where it has them.
        questions: What to ask.
        seed: Of the sampling noise.
        rollouts: Of each question.
        every_token: Value a close after every token as well: what an operating point is chosen on.
        rows: Rollouts that run side by side.
        progress: Told after each wave.
    """
    temperature = model.decoding.sampling.temperature
    waves = rollout_waves(
        model, questions, seed=seed, rollouts=rollouts, rows=rows, progress=progress
    )
    return joined(
        [
            part
            for index, wave in enumerate(waves)
            for part in extract(
                model,
                wave,
                temperature=temperature,
                every_token=every_token,
                seed=seed + index * _WAVE,
            )
        ]
    )


def rollout_waves(
    model: MetacogModel,
    questions: Sequence[Question],
    *,
    seed: int,
    rollouts: int = 1,
    opening: Sequence[int] = (),
    own_budget: bool = False,
    rows: int = 128,
    progress: Progress | None = None,
) -> Iterator[list[Rollout]]:
    """Yield the rollouts of some questions after others, as `collect_features` makes them.

    Args:
        model: The base, with layer and gate where it has them.
        questions: What to ask.
        seed: Of the sampling noise.
        rollouts: Of each question.
        opening: Ids that THINK begins with; they count as prompt.
        own_budget: Whether the model's own budgets and re-readings act; else nothing caps a reply.
        rows: Rollouts that run side by side.
        progress: Told when the next wave is asked for.
    """
    acting = None if own_budget else False
    settings = engine_settings(model, rows=rows, revise=acting, reread=own_budget)
    engine = Engine(model, unmodulated(settings))
    started = time.monotonic()
    for start in range(0, len(questions), _WAVE):
        wave = questions[start : start + _WAVE]
        asked = {
            (start + index) * rollouts + turn: question
            for index, question in enumerate(wave)
            for turn in range(rollouts)
        }
        budget = None if own_budget else NO_LIMIT
        requests = [_request(model, n, q, opening, seed, budget) for n, q in asked.items()]
        requests.sort(key=lambda request: len(request.prompt))
        yield list(roll_out(engine.generate, model.base, asked, requests))
        if progress is not None:
            done = start + len(wave)
            left = (time.monotonic() - started) / done * (len(questions) - done)
            progress(done, len(questions), left)


def _request(
    model: MetacogModel,
    number: int,
    question: Question,
    opening: Sequence[int],
    seed: int,
    budget: int | None,
) -> Request:
    prompt = render(model.base.tokenizer, [{"role": "user", "content": question.text}])
    whole = (*prompt, *opening)
    request = request_for(model, whole, request_id=number, budget=budget, seed=seed)
    return replace(request, top_p=1.0, repetition_penalty=1.0)
