"""Runs every plan on the same questions, as the plan by family matrix of P13 wants it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metacog.data.tasks.questions import Question, score
from metacog.decode.collect import said
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for, unmodulated
from metacog.eval.proof.specialisation import PlanReplies
from metacog.eval.runner import request_id
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.text.render import render


def run_plans(
    model: MetacogModel, questions: Sequence[Question], *, seed: int = 0, rows: int = 128
) -> PlanReplies:
    """Return what forcing each plan does, under the budget that the plan leads to.

    THINK opens with the plan's mark: without it a plan would change nothing but budget and sampler.
    """
    assert model.reader is not None
    how = model.decoding.model_copy(
        update={"plan": model.decoding.plan.model_copy(update={"inject": True})}
    )
    settings = unmodulated(engine_settings(model, how, rows=rows))
    names, asked = model.reader.plans, {request_id(q): q for q in questions}
    order = {number: place for place, number in enumerate(asked)}
    right, spend = (np.zeros((len(asked), len(names))) for _ in range(2))
    chosen = np.zeros(len(asked), dtype=np.int64)
    for k, plan in enumerate(names):
        requests = [_request(model, number, q, plan, seed) for number, q in asked.items()]
        for reply in Engine(model, settings).generate(requests):
            place, question = order[reply.request_id], asked[reply.request_id]
            right[place, k] = score(question, said(reply, model.base))
            spend[place, k] = reply.spend
            assert reply.reading is not None
            chosen[place] = names.index(reply.reading.chosen_plan)
    return PlanReplies(
        question=np.array([q.id for q in asked.values()]),
        family=np.array([q.family for q in asked.values()]),
        right=right,
        spend=spend,
        chosen=chosen,
        names=tuple(names),
    )


def _request(model: MetacogModel, number: int, question: Question, plan: str, seed: int) -> Request:
    prompt = tuple(render(model.base.tokenizer, [{"role": "user", "content": question.text}]))
    request = request_for(model, prompt, request_id=number, plan=plan, seed=seed)
    return replace(request, top_p=1.0, repetition_penalty=1.0)
