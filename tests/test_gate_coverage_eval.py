"""The gate's coverage in replies of the real engine, against a full pass over the same tokens."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metacog.decode.budget import ControllerSettings
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.rereading import RereadSettings
from metacog.model.bundle import MetacogModel
from metacog.model.taps import taps
from metacog.records import Generation, Request

SETTINGS = EngineSettings(
    rows=8,
    controller=ControllerSettings(min_think=8, answer_reserve=8),
    reread=RereadSettings(schedule="none"),
)


def replies_of(model: MetacogModel, prompts: Sequence[tuple[int, ...]]) -> list[Generation]:
    requests = [
        Request(id=index, prompt=prompt, budget=40, max_new_tokens=60, max_answer_tokens=8)
        for index, prompt in enumerate(prompts)
    ]
    return list(Engine(model, SETTINGS).generate(requests))


def switch_logits(model: MetacogModel, reply: Generation) -> Tensor:
    """Return what the switch says of every THINK token, from one pass without a cache or a gate.

    The gated block's own output comes before the gate, so that a pass without it shows the same.
    """
    assert model.gate is not None
    ids = torch.tensor([[*reply.prompt, *(step.token for step in reply.steps)]])
    with torch.no_grad(), taps(model.base.blocks) as tapped:
        model.base.model(input_ids=ids)
    places = len(reply.prompt) + torch.arange(len(reply.think))
    states = tapped.gather(torch.zeros_like(places), places)[:, model.gate.shape.layer]
    scaled = states / states.square().mean(dim=1, keepdim=True).sqrt()
    return (scaled @ model.gate.switch.weight[0] + model.gate.switch.bias).detach()


def test_a_gate_that_is_always_on_covers_all_of_think(
    make_tiny_model: Callable[..., MetacogModel], tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    replies = replies_of(make_tiny_model(switch="always"), tiny_prompts)
    assert len(replies) == len(tiny_prompts)
    for reply in replies:
        assert len(reply.think) >= 8
        assert reply.gate is not None
        assert reply.gate.coverage == 1.0


def test_a_learned_gate_covers_the_share_that_a_full_pass_finds(
    make_tiny_model: Callable[..., MetacogModel], tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    model = make_tiny_model()
    assert model.gate is not None
    with torch.no_grad():
        model.gate.switch.bias.fill_(-2.0)
    for reply in replies_of(model, tiny_prompts):
        logits = switch_logits(model, reply)
        assert float(logits.abs().min()) > 1e-3, "a token too close to call: choose another seed"
        on = (logits > 0).float()
        assert reply.gate is not None
        assert reply.gate.coverage is not None
        assert 0 < reply.gate.coverage < 1
        assert abs(reply.gate.coverage - float(on.mean())) < 1e-6


def test_coverage_follows_the_switch_and_a_gate_that_stays_off_has_a_coverage_of_zero(
    make_tiny_model: Callable[..., MetacogModel], tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    model = make_tiny_model()
    assert model.gate is not None
    means = []
    for bias in (-100.0, 0.0, 100.0):
        with torch.no_grad():
            model.gate.switch.bias.fill_(bias)
        figures = [reply.gate for reply in replies_of(model, tiny_prompts)]
        found = [f.coverage for f in figures if f is not None and f.coverage is not None]
        assert len(found) == len(tiny_prompts)
        means.append(sum(found) / len(found))
    assert means[0] == 0.0
    assert 0.0 < means[1] < 1.0
    assert means[2] == 1.0


def test_the_figures_are_those_of_a_gate_that_acts(
    make_tiny_model: Callable[..., MetacogModel], tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    acting = replies_of(make_tiny_model(switch="always"), tiny_prompts)
    idle = replies_of(make_tiny_model(switch="always", spread=0.0), tiny_prompts)
    assert all(reply.gate is not None and reply.gate.norm for reply in acting)
    assert [reply.gate.norm for reply in idle if reply.gate is not None] == [0.0] * len(idle)
    assert [r.think for r in acting] != [r.think for r in idle]


def test_without_a_gate_nothing_is_reported(
    tiny_base_model: MetacogModel, tiny_prompts: Sequence[tuple[int, ...]]
) -> None:
    assert all(reply.gate is None for reply in replies_of(tiny_base_model, tiny_prompts))
