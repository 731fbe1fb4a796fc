"""Invariant 1: leaving `taps()` or `gate()` leaves no hook, and the base's logits bit for bit."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
import torch
from torch import Tensor, nn

from metacog.decode.batch import causal, left_padded_ids
from metacog.decode.engine import Engine
from metacog.model.base import gated_module
from metacog.model.bundle import MetacogModel
from metacog.model.gate import gate
from metacog.model.step import ModuleStep
from metacog.model.taps import taps
from metacog.records import Step
from metacog.train.gated import gated, positions_of, read_prompts
from tests.invariants.replies import Prompts, answered, ids_of, mixed_requests, settings

Attach = Callable[[MetacogModel, Prompts], AbstractContextManager[object]]


class StopHere(Exception):
    pass


def num_hooks(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, kind)) for part in module.modules() for kind in kinds)


@torch.no_grad()
def states_of(model: MetacogModel, prompts: Prompts) -> Tensor:
    ids, valid = left_padded_ids(prompts, model.base.pad_id)
    return model.base.hidden_states(ids, mask=causal(valid), positions=positions_of(valid))


def one_tap(model: MetacogModel, _: Prompts) -> AbstractContextManager[object]:
    return taps(model.base.blocks)


def one_gate(model: MetacogModel, prompts: Prompts) -> AbstractContextManager[object]:
    _, valid = left_padded_ids(prompts, model.base.pad_id)
    return gated(model, read_prompts(model, prompts), valid)


def as_the_engine(model: MetacogModel, _: Prompts) -> AbstractContextManager[object]:
    return ModuleStep(model.base, model.gate, tapped=True).attached()


def nested(model: MetacogModel, prompts: Prompts) -> AbstractContextManager[object]:
    stack = ExitStack()
    for attach in (one_tap, one_gate, one_tap, as_the_engine):
        stack.enter_context(attach(model, prompts))
    return stack


@pytest.mark.parametrize("attach", [one_tap, one_gate, as_the_engine, nested])
@pytest.mark.parametrize("fails", [False, True], ids=["normally", "by exception"])
def test_after_the_block_the_base_is_bare(
    tiny_model: MetacogModel,
    tiny_base_model: MetacogModel,
    tiny_prompts: Prompts,
    attach: Attach,
    fails: bool,
) -> None:
    bare = states_of(tiny_base_model, tiny_prompts)
    with ExitStack() as stack:
        if fails:
            stack.enter_context(pytest.raises(StopHere))
        stack.enter_context(attach(tiny_model, tiny_prompts))
        assert num_hooks(tiny_model.base.model) > 0
        states_of(tiny_model, tiny_prompts)
        if fails:
            raise StopHere
    assert num_hooks(tiny_model.base.model) == 0
    assert torch.equal(states_of(tiny_model, tiny_prompts), bare)


def test_a_hook_that_fails_goes_too(
    tiny_model: MetacogModel, tiny_base_model: MetacogModel, tiny_prompts: Prompts
) -> None:
    feedback, blocks = tiny_model.gate, tiny_model.base.blocks
    assert feedback is not None
    width = max(map(len, tiny_prompts))
    thinking = torch.ones(len(tiny_prompts), width, dtype=torch.bool)

    def run() -> None:
        module = gated_module(blocks[1], "block")
        with taps(blocks), gate(module, feedback) as state:
            state.set(torch.ones(len(tiny_prompts), 7), thinking)
            states_of(tiny_model, tiny_prompts)

    with pytest.raises(RuntimeError, match="size"):
        run()
    assert num_hooks(tiny_model.base.model) == 0
    bare = states_of(tiny_base_model, tiny_prompts)
    assert torch.equal(states_of(tiny_model, tiny_prompts), bare)


def test_an_inner_block_takes_only_its_own_hook(
    tiny_model: MetacogModel, tiny_prompts: Prompts
) -> None:
    blocks = tiny_model.base.blocks
    with taps(blocks) as outer:
        with taps(blocks):
            assert num_hooks(tiny_model.base.model) == 2 * len(blocks)
        assert num_hooks(tiny_model.base.model) == len(blocks)
        states_of(tiny_model, tiny_prompts)
        last = torch.zeros(len(tiny_prompts), dtype=torch.long)
        assert outer.at(last).shape == (len(tiny_prompts), len(blocks), 32)


@pytest.mark.parametrize("tokens", [1, 9])
def test_an_abandoned_stream_leaves_nothing(
    tiny_model: MetacogModel, tiny_base_model: MetacogModel, tiny_prompts: Prompts, tokens: int
) -> None:
    bare = states_of(tiny_base_model, tiny_prompts)
    requests = mixed_requests(tiny_prompts, 4)
    whole = answered(tiny_model, requests, settings())
    stream = Engine(tiny_model, settings(rows=2)).stream(requests)
    started = [next(stream) for _ in range(tokens)]
    assert all(isinstance(event, Step) for event in started)
    assert num_hooks(tiny_model.base.model) == 0
    assert torch.equal(states_of(tiny_model, tiny_prompts), bare)
    del stream
    assert num_hooks(tiny_model.base.model) == 0
    again = answered(tiny_model, requests, settings())
    assert {key: ids_of(r) for key, r in again.items()} == {
        key: ids_of(r) for key, r in whole.items()
    }
