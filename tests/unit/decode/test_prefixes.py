"""The layout of branches by hand, need by hand, and states against passes without branches."""

import pytest
import torch
from torch import Tensor

from metacog.decode.prefixes import PrefixValues, Trace, pack, prefix_values
from metacog.model.bundle import MetacogModel
from metacog.model.taps import taps


def values(cuts: tuple[int, ...], right: list[bool]) -> PrefixValues:
    nothing = torch.zeros(len(cuts), 1, 1)
    greedy = torch.tensor(right)
    return PrefixValues(cuts, torch.zeros(len(cuts)), greedy, nothing[0], nothing, nothing)


@pytest.mark.parametrize(
    ("cuts", "right", "need"),
    [
        ((0, 4, 9), [False, False, True], 9),
        ((0, 4, 9), [False, True, True], 4),
        ((0, 4, 9), [True, False, True], 9),
        ((0, 4, 9), [True, True, False], None),
        ((0, 4, 9), [False, False, False], None),
        ((0, 4, 9), [True, True, True], 1),
        ((0, 1, 9), [True, True, True], 1),
        ((0,), [True], 1),
        ((0,), [False], None),
    ],
)
def test_need_is_where_it_is_right_and_stays_right(
    cuts: tuple[int, ...], right: list[bool], need: int | None
) -> None:
    assert values(cuts, right).need == need


def test_the_layout_of_one_trace_and_a_longer_one() -> None:
    """Prompt 1 2, thinking 3 4, closer 9, answer 7; cut after 0 and after 2 tokens."""
    short = Trace((1, 2), (3, 4), (7,), (0, 2))
    longer = Trace((1, 2, 5), (3, 4, 6), (7, 8), (3,))
    packed = pack([short, longer], (9,), 0)
    assert packed.ids.tolist() == [[0, 1, 2, 3, 4, 9, 7, 9, 7], [1, 2, 5, 3, 4, 6, 9, 7, 8]]
    assert packed.positions.tolist() == [[0, 0, 1, 2, 3, 2, 3, 4, 5], list(range(9))]
    assert packed.starts == (1, 0)
    assert packed.prompt_end.tolist() == [2, 2]
    assert packed.thinking.nonzero().tolist() == [[0, 3], [0, 4], [1, 3], [1, 4], [1, 5]]
    seen = [
        "x........",
        ".x.......",
        ".xx......",
        ".xxx.....",
        ".xxxx....",
        ".xx..x...",
        ".xx..xx..",
        ".xxxx..x.",
        ".xxxx..xx",
    ]
    assert drawn(packed.mask[0, 0]) == seen
    assert drawn(packed.mask[1, 0]) == ["x" * (n + 1) + "." * (8 - n) for n in range(9)]


def drawn(mask: Tensor) -> list[str]:
    return ["".join("x" if cell else "." for cell in line) for line in mask.tolist()]


@torch.no_grad()
def states_of(model: MetacogModel, ids: tuple[int, ...]) -> Tensor:
    """Every block's state after the last of some tokens, without padding or branches."""
    lower = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None]
    with taps(model.base.blocks) as tapped:
        model.base.hidden_states(
            torch.tensor([ids]), mask=lower, positions=torch.arange(len(ids))[None]
        )
    return tapped.at(torch.tensor([len(ids) - 1]))[0]


@torch.no_grad()
def answer_logits(model: MetacogModel, before: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """The logits before each answer token, each from a pass of its own."""
    found = []
    for at in range(len(answer)):
        ids = (*before, *answer[:at])
        lower = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None]
        positions = torch.arange(len(ids))[None]
        found.append(model.base.logits(torch.tensor([ids]), mask=lower, positions=positions)[0])
    return torch.stack(found)


def test_values_of_a_bare_base(
    tiny_base_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    model, close = tiny_base_model, tiny_base_model.base.tags.think_close
    think, cuts = (60, 61, 62, 63, 64), (0, 2, 5)
    said = answer_logits(model, (*tiny_prompts[0], *think[:2], *close), (0,)).argmax(-1).tolist()
    traces = [
        Trace(tiny_prompts[0], think, tuple(said), cuts),
        Trace(tiny_prompts[2], think[:1], (33, 44), (0, 1)),
    ]
    found = prefix_values(model, traces, temperature=0.7)
    assert found[0].greedy.tolist()[1] is True, "the base's own greedy answer after the second cut"
    for trace, value in zip(traces, found, strict=True):
        assert value.cuts == trace.cuts
        torch.testing.assert_close(
            value.prompt_states, states_of(model, trace.prompt), atol=1e-4, rtol=1e-5
        )
        for row, cut in enumerate(trace.cuts):
            before = (*trace.prompt, *trace.think[:cut])
            closed = (*before, *close)
            for kept, ids in ((value.cut_states, before), (value.close_states, closed)):
                torch.testing.assert_close(kept[row], states_of(model, ids), atol=1e-4, rtol=1e-5)
            logits = answer_logits(model, closed, trace.answer)
            answer = torch.tensor(trace.answer)
            chosen = (logits / 0.7).log_softmax(-1).gather(1, answer[:, None]).sum()
            torch.testing.assert_close(value.logprob[row], chosen, atol=1e-4, rtol=1e-5)
            assert value.greedy[row].item() is bool((logits.argmax(-1) == answer).all())


def test_a_cut_of_nothing_has_the_prompts_state(
    tiny_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    value = prefix_values(tiny_model, [Trace(tiny_prompts[1], (60, 61), (7,), (0, 2))])[0]
    assert torch.equal(value.cut_states[0], value.prompt_states)
    assert not torch.equal(value.cut_states[1], value.prompt_states)


def test_a_trace_without_thinking(
    tiny_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    value = prefix_values(tiny_model, [Trace(tiny_prompts[1], (), (7,), (0,))])[0]
    assert value.logprob.shape == (1,)
    assert value.logprob.item() < 0
