"""What the gate did, as means over THINK tokens that are worked out one by one."""

from collections.abc import Callable
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from metacog.decode.engine import Engine
from metacog.decode.terms import segments_of
from metacog.losses.report import means
from metacog.model.bundle import MetacogModel
from metacog.model.gate import GateState
from metacog.model.taps import taps
from metacog.records import BudgetSource, Generation, Request, Segment, Step
from metacog.text.resolve import ResolvedTags
from metacog.train.gated import (
    ReplyBatch,
    gate_tallies,
    gated,
    read_prompts,
    reply_batch,
    reply_logits,
)
from tests.unit.decode import streams

MakeModel = Callable[..., MetacogModel]
Prompts = tuple[tuple[int, ...], ...]
LAYER, STRENGTH = 1, 0.5


def replies_of(model: MetacogModel, prompts: Prompts, budget: int) -> list[Generation]:
    requests = [
        Request(id=n, prompt=prompt, budget=budget + n, max_new_tokens=80, max_answer_tokens=4)
        for n, prompt in enumerate(prompts)
    ]
    return list(Engine(model).generate(requests))


def metrics_of(model: MetacogModel, batch: ReplyBatch) -> tuple[dict[str, float], GateState | None]:
    reading = read_prompts(model, batch.prompts)
    with gated(model, reading, batch.gated) as state:
        reply_logits(model, batch)
        return means(gate_tallies(state, batch.thinking)), state


def block_states(model: MetacogModel, reply: Generation) -> tuple[Tensor, Tensor]:
    """The gated block's output over one reply alone, without the gate, and its gate vector."""
    assert model.gate is not None
    ids = [*reply.prompt, *(step.token for step in reply.steps)]
    with torch.no_grad(), taps(model.base.blocks) as tapped:
        model.base.model(input_ids=torch.tensor([ids]))
        states = torch.stack([tapped.at(torch.tensor([n]))[0, LAYER] for n in range(len(ids))])
        raw = read_prompts(model, [reply.prompt])
        gamma = model.gate.gamma(raw.g, raw.plan_logits, raw.conf_raw)[0]
    return states, gamma


@pytest.mark.parametrize("switch", ["always", "learned"])
def test_figures_are_means_over_think_tokens(
    make_tiny_model: MakeModel, tiny_prompts: Prompts, switch: str
) -> None:
    model = make_tiny_model(switch=switch, strength=STRENGTH)
    assert model.gate is not None
    replies = replies_of(model, tiny_prompts, 5)
    on, relative, saturated = [], [], []
    for reply in replies:
        states, gamma = block_states(model, reply)
        pushed = (gamma - 1) / STRENGTH
        share = fmean(float(abs(value) > 0.95) for value in pushed.tolist())
        for at in range(reply.budget.used):
            state = states[len(reply.prompt) + at]
            is_on = float(model.gate.on(state[None, None])[0, 0])
            change = is_on * (gamma - 1) * state
            on.append(is_on)
            relative.append(float(change.norm() / state.norm()))
            saturated.append(share)
    found, _ = metrics_of(model, reply_batch(replies, model.base.pad_id))
    assert found == pytest.approx(
        {
            "metacog/gate/coverage": fmean(on),
            "metacog/gate/norm": fmean(relative),
            "metacog/gate/saturation": fmean(saturated),
        },
        abs=1e-4,
    )
    assert 0 < fmean(saturated) < 1
    assert (0 < fmean(on) < 1) == (switch == "learned")


def test_in_training_a_token_may_be_partly_on(
    make_tiny_model: MakeModel, tiny_prompts: Prompts
) -> None:
    model = make_tiny_model()
    assert model.gate is not None
    model.gate.train()
    torch.manual_seed(0)
    batch = reply_batch(replies_of(model, tiny_prompts, 9), model.base.pad_id)
    found, state = metrics_of(model, batch)
    assert state is not None
    assert state.on is not None
    parts = [
        float(on)
        for row, thinks in zip(state.on, batch.thinking, strict=True)
        for on, inside in zip(row, thinks, strict=True)
        if inside
    ]
    assert any(0 < part < 1 for part in parts)
    assert found["metacog/gate/coverage"] == pytest.approx(fmean(parts), abs=1e-6)


def test_without_thinking_or_a_gate_there_is_no_figure(
    make_tiny_model: MakeModel, tiny_prompts: Prompts
) -> None:
    model = make_tiny_model()
    silent = [reply for reply in replies_of(model, tiny_prompts[:1], 0) if not reply.think]
    assert silent
    assert metrics_of(model, reply_batch(silent, model.base.pad_id))[0] == {}
    bare = MetacogModel(model.base, model.reader)
    thinking = reply_batch(replies_of(model, tiny_prompts, 5), model.base.pad_id)
    assert metrics_of(bare, thinking) == ({}, None)


@examples(max_examples=500, deadline=None)
@given(st.sampled_from([streams.DOUBLE, streams.TRIPLE]), streams.controls_of, streams.terms_of)
def test_the_engine_gated_what_training_gates(
    tags: ResolvedTags, controls: streams.Controls, terms: streams.Terms
) -> None:
    """What came as THINK is gated, whether it turns out to be of the closer or not."""
    controller = streams.controller_of(terms, tags, controls.settings())
    emitted = streams.play(controller, terms)
    report = controller.report(requested=None, predicted=None, source=BudgetSource.EXPLICIT)
    final = segments_of(len(emitted), report.used, len(tags.think_close))
    steps = tuple(
        Step(0, at, e.token, segment, e.decision.forced is None, e.altered, 0.0)
        for at, (e, segment) in enumerate(zip(emitted, final, strict=True))
    )
    reply = Generation(0, (5,), steps, report, None, None, None, finished=True)
    laid_out = reply_batch([reply], 0)
    assert laid_out.gated[0, 1:].tolist() == [e.segment is Segment.THINK for e in emitted]
    assert laid_out.thinking[0, 1:].tolist() == [segment is Segment.THINK for segment in final]
