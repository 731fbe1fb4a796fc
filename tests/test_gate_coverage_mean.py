"""Coverage is a mean over THINK tokens alone: whatever stands beside them changes nothing."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from metacog.decode.budget import ControllerSettings
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.rereading import RereadSettings
from metacog.model.bundle import MetacogModel
from metacog.model.taps import taps
from metacog.records import Generation, Request
from metacog.train.gated import gated, read_prompts, reply_batch, reply_logits

CONTROLLER = ControllerSettings(min_think=6, answer_reserve=8)


def answered(
    model: MetacogModel, requests: Sequence[Request], *, rows: int
) -> dict[int, Generation]:
    settings = EngineSettings(
        rows=rows, controller=CONTROLLER, reread=RereadSettings(schedule="none")
    )
    return {reply.request_id: reply for reply in Engine(model, settings).generate(requests)}


def requests_for(prompts: Sequence[tuple[int, ...]]) -> list[Request]:
    """Ask for a different length of thinking in each row."""
    return [
        Request(id=i, prompt=p, budget=9 + 7 * i, max_new_tokens=64, max_answer_tokens=12)
        for i, p in enumerate(prompts)
    ]


def coverage_of(reply: Generation) -> float:
    assert reply.gate is not None
    assert reply.gate.coverage is not None
    return reply.gate.coverage


def switched_on(model: MetacogModel, reply: Generation) -> Tensor:
    """Return the switch at every token of a reply, in THINK or not, from a pass without a gate."""
    assert model.gate is not None
    ids = torch.tensor([[*reply.prompt, *(step.token for step in reply.steps)]])
    with torch.no_grad(), taps(model.base.blocks) as tapped:
        model.base.model(input_ids=ids)
        every = torch.arange(ids.shape[1])
        states = tapped.gather(torch.zeros_like(every), every)[:, model.gate.shape.layer]
        return model.gate.on(states.unsqueeze(0))[0]


def test_a_row_alone_and_one_among_longer_prompts_have_the_same_coverage(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    requests = requests_for(tiny_prompts)
    assert len({len(request.prompt) for request in requests}) > 1, "no row would be padded"
    together = answered(tiny_model, requests, rows=len(requests))
    for request in requests:
        alone = answered(tiny_model, [request], rows=1)[request.id]
        assert alone.think == together[request.id].think
        assert coverage_of(alone) == coverage_of(together[request.id])


def test_prompt_closer_answer_and_padding_count_for_nothing(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    replies = answered(tiny_model, requests_for(tiny_prompts), rows=8)
    differs = 0
    for reply in replies.values():
        on = switched_on(tiny_model, reply)
        first, used = len(reply.prompt), len(reply.think)
        inside = on[first : first + used]
        assert coverage_of(reply) == pytest.approx(float(inside.mean()), abs=1e-6)
        others = (on.mean(), on[first:].mean(), on[: first + used].mean())
        differs += all(abs(coverage_of(reply) - float(other)) > 1e-3 for other in others)
    assert differs > 0, "nothing here tells THINK from the rest"


def test_a_padded_batch_under_teacher_forcing_has_the_engines_coverage(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    replies = list(answered(tiny_model, requests_for(tiny_prompts), rows=8).values())
    batch = reply_batch(replies, tiny_model.base.pad_id)
    assert not batch.valid.all(), "no row is padded"
    assert batch.thinking.sum(1).tolist() == [len(reply.think) for reply in replies]
    with (
        torch.no_grad(),
        gated(tiny_model, read_prompts(tiny_model, batch.prompts), batch.gated) as state,
    ):
        reply_logits(tiny_model, batch)
        assert state is not None
        assert state.on is not None
        on = state.on
    assert float(on[~batch.thinking].abs().max()) == 0.0
    means = on.sum(1) / batch.thinking.sum(1)
    assert means.tolist() == pytest.approx([coverage_of(reply) for reply in replies], abs=1e-6)


def test_a_reply_without_think_tokens_has_no_coverage_and_not_zero(
    tiny_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    requests = [
        Request(id=0, prompt=tiny_prompts[0], budget=0, max_new_tokens=24, max_answer_tokens=8),
        Request(id=1, prompt=tiny_prompts[1], budget=9, max_new_tokens=24, max_answer_tokens=8),
    ]
    replies = answered(tiny_model, requests, rows=2)
    silent, thoughtful = replies[0], replies[1]
    assert silent.think == ()
    assert silent.gate is not None
    assert (silent.gate.coverage, silent.gate.norm, silent.gate.saturation) == (None, None, None)
    assert silent.gate.per_token == ()
    assert 0 <= coverage_of(thoughtful) <= 1
