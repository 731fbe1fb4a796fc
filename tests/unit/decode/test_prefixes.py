"""The layout of branches by hand, need by hand, and states against passes without branches."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from metacog.decode.budget import ControllerSettings
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.prefixes import PrefixValues, Trace, pack, prefix_values
from metacog.decode.rereading import RereadSettings
from metacog.model.bundle import MetacogModel
from metacog.model.taps import taps
from metacog.records import Request, Segment


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


@pytest.mark.parametrize(
    ("at", "need"), [((0, 4, 9), 4), ((0, 9), 9), ((2, 4), 2), ((7,), 9), ((), 9), ((4, 7), 9)]
)
def test_need_at_line_ends_does_not_see_the_cuts_between_them(
    at: tuple[int, ...], need: int
) -> None:
    found = values((0, 2, 4, 7, 9), [False, True, True, False, True])
    assert found.need == 9
    assert found.need_at(at) == need


@pytest.mark.parametrize(
    ("chances", "enough"),
    [
        ([0.1, 0.96, 0.97, 0.99], 2),
        ([0.1, 0.96, 0.5, 0.99], 9),
        ([0.99, 0.99, 0.99, 0.99], 1),
        ([0.1, 0.2, 0.95, 0.95], 4),
        ([0.99, 0.99, 0.99, 0.94], None),
        ([0.1, 0.2, 0.3, 0.4], None),
    ],
)
def test_enough_is_where_the_right_answer_becomes_likely_and_stays_so(
    chances: list[float], enough: int | None
) -> None:
    found = replace(values((0, 2, 4, 9), [True] * 4), logprob=torch.tensor(chances).double().log())
    assert found.enough_at(0.9499) == enough


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
    marks = [*close, *model.base.tags.think_open]
    assert len(marks) == 2
    first = answer_logits(model, (*tiny_prompts[0], *think[:2], *close), (0,))
    first[:, marks] = -torch.inf
    said = first.argmax(-1).tolist()
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
            logits[:, marks] = -torch.inf
            answer = torch.tensor(trace.answer)
            chosen = (logits / 0.7).log_softmax(-1).gather(1, answer[:, None]).sum()
            torch.testing.assert_close(value.logprob[row], chosen, atol=1e-4, rtol=1e-5)
            assert value.greedy[row].item() is bool((logits.argmax(-1) == answer).all())


def test_greedy_values_are_certain(
    tiny_base_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    model, prompt, close = tiny_base_model, tiny_prompts[0], tiny_base_model.base.tags.think_close
    first = answer_logits(model, (*prompt, 60, 61, *close), (0,))
    first[:, [*close, *model.base.tags.think_open]] = -torch.inf
    own = Trace(prompt, (60, 61, 62), tuple(first.argmax(-1).tolist()), (0, 2, 3))
    (found,) = prefix_values(model, [own], temperature=0.0)
    assert found.greedy[1]
    assert found.logprob.exp().tolist() == found.greedy.float().tolist()
    assert set(found.logprob.tolist()) <= {0.0, -math.inf}


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


def test_the_greedy_answer_is_the_one_that_the_engine_gives(
    tiny_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    """Here the base would often close or open THINK again inside its answer."""
    requests = [
        Request(n, prompt, budget=budget, temperature=0.0, max_new_tokens=40, max_answer_tokens=8)
        for n, (prompt, budget) in enumerate(product(tiny_prompts, (0, 2, 5, 9)))
    ]
    settings = EngineSettings(
        controller=ControllerSettings(answer_reserve=8), reread=RereadSettings(revise=False)
    )
    replies = list(Engine(tiny_model, settings).generate(requests))
    answers = [step for r in replies for step in r.steps if step.segment is Segment.ANSWER]
    assert any(step.altered for step in answers), "nothing was suppressed in any answer"
    traces = [Trace(r.prompt, r.think, r.answer, (len(r.think),)) for r in replies]
    for value in prefix_values(tiny_model, traces):
        assert value.greedy.tolist() == [True]


def test_what_no_answer_may_hold_has_no_probability(
    tiny_base_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    tags, size = tiny_base_model.base.tags, tiny_base_model.base.vocabulary
    traces = [Trace(tiny_prompts[0], (60, 61), (token,), (0, 2)) for token in range(size)]
    found = torch.stack([v.logprob for v in prefix_values(tiny_base_model, traces)]).exp()
    for mark in (tags.think_open, tags.think_close):
        assert found[list(mark)].tolist() == [[0.0, 0.0]]
    torch.testing.assert_close(found.sum(0), torch.ones(2))


def test_a_mark_of_several_ids_is_left_as_it_is(
    tiny_base_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    tags = replace(tiny_base_model.base.tags, think_open=(70, 71), think_close=(72, 73))
    base = replace(tiny_base_model.base, tags=tags)
    answer = (70, 71, 72, 73)
    (value,) = prefix_values(
        replace(tiny_base_model, base=base), [Trace(tiny_prompts[0], (60,), answer, (1,))]
    )
    logits = answer_logits(tiny_base_model, (*tiny_prompts[0], 60, 72, 73), answer)
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
    torch.testing.assert_close(value.logprob[0], chosen, atol=1e-4, rtol=1e-5)
