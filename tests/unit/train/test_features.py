import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metacog.data.tasks.families import FAMILIES
from metacog.decode.collect import Rollout
from metacog.decode.prefixes import PrefixValues
from metacog.model.bundle import MetacogModel
from metacog.records import CloseReason
from metacog.train.features import Features, _rows, extract, joined

MakeRollout = Callable[..., Rollout]

LINE_END = 10
STATES = torch.arange(24.0).reshape(4, 2, 3)


def values_of(
    cuts: Sequence[int], greedy: Sequence[bool], logprob: Sequence[float] | None = None
) -> PrefixValues:
    count = len(cuts)
    chances = [-0.5] * count if logprob is None else logprob
    return PrefixValues(
        cuts=tuple(cuts),
        logprob=torch.tensor(list(chances)),
        greedy=torch.tensor(list(greedy)),
        prompt_states=STATES[0],
        cut_states=STATES[:1].expand(count, 2, 3),
        close_states=STATES[:1].expand(count, 2, 3),
    )


@pytest.mark.parametrize(
    ("cuts", "right", "need"),
    [
        ((0, 4, 9), (False, False, True), 9),
        ((0, 4, 9), (False, True, True), 4),
        ((0, 4, 9), (True, False, True), 9),  # it was right, but did not stay so
        ((0, 4, 9), (True, True, True), 1),  # a need is at least one token
        ((0, 4, 9), (True, True, False), None),  # it ends wrong
        ((0, 4, 9), (False, False, False), None),
        ((0,), (True,), 1),
    ],
)
def test_need_is_the_first_cut_from_which_the_answer_is_right_and_stays_so(
    cuts: tuple[int, ...], right: tuple[bool, ...], need: int | None
) -> None:
    assert values_of(cuts, right).need == need


def numbers(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def test_rows_by_hand(make_rollout: MakeRollout) -> None:
    """Two rollouts: one right from its second cut on, one that was cut off and ends wrong."""
    first = make_rollout(0, think=(11, LINE_END, 12, 13), answer=(21, 22))
    second = make_rollout(1, think=(11, 12), reason=CloseReason.MAX_TOKENS, finished=False)
    rows = _rows(
        [first, second],
        [
            values_of((0, 2, 4), (False, True, True), (-2.0, -1.0, -0.25)),
            values_of((0, 2), (True, False), (-0.5, -3.0)),
        ],
        frozenset({LINE_END}),
    )
    assert numbers(rows.need) == [2.0, None]
    assert rows.natural.tolist() == [4.0, 2.0]
    assert rows.closed.tolist() == [True, False]
    assert rows.prompt.tolist() == [0, 0, 0, 1, 1]
    assert rows.used.tolist() == [0, 2, 4, 0, 2]
    assert rows.line_end.tolist() == [False, True, False, False, False]
    assert numbers(rows.needed) == [2.0, 0.0, 0.0, None, None]
    expected = [math.exp(x) for x in (-2.0, -1.0, -0.25, -0.5, -3.0)]
    assert rows.ready.tolist() == pytest.approx(expected)
    assert numbers(rows.hope)[3:] == [None, None]
    assert rows.hope[:3].tolist() == pytest.approx([math.exp(-0.25)] * 3)
    assert rows.prompt_length.tolist() == [3, 3]
    assert rows.family.tolist() == [list(FAMILIES).index("gcd")] * 2
    assert rows.level.tolist() == [3, 3]
    assert rows.question.tolist() == [int(r.question.id, 16) // 16 for r in (first, second)], (
        "the first 60 of 64 bits"
    )
    assert rows.plan.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("reason", "finished", "closed"),
    [
        (CloseReason.NATURAL, True, True),
        (CloseReason.NATURAL, False, True),  # THINK closed by itself, the answer ran on
        (CloseReason.MAX_TOKENS, True, False),  # THINK was cut, the answer ended by itself
        (CloseReason.MAX_TOKENS, False, False),
    ],
)
def test_closed_speaks_of_think_and_not_of_the_reply(
    make_rollout: MakeRollout, reason: CloseReason, finished: bool, closed: bool
) -> None:
    rollout = make_rollout(0, reason=reason, finished=finished)
    rows = _rows([rollout], [values_of((0, 2), (False, True))], frozenset())
    assert rows.closed.tolist() == [closed]
    assert bool(rows.hope.isnan().all()) is not closed


@pytest.fixture
def parts(make_rollout: MakeRollout) -> list[Features]:
    cuts = [((0, 2), (False, True)), ((0, 1, 2), (True, True, True)), ((0,), (False,))]
    return [
        _rows([make_rollout(index)], [values_of(*cut)], frozenset())
        for index, cut in enumerate(cuts)
    ]


def test_joined_points_still_belong_to_their_own_prompts(parts: list[Features]) -> None:
    both = joined([parts[0], parts[1]])
    whole = joined([both, parts[2], parts[0]])
    assert whole.prompt.tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    assert whole.natural.tolist() == [2.0] * 4
    needs = [torch.cat([part.need for part in (*parts, parts[0])])[row] for row in whole.prompt]
    needed = (torch.stack(needs) - whole.used).clamp(min=0)
    assert numbers(whole.needed) == numbers(needed)
    for field in fields(Features):
        column = getattr(whole, field.name)
        assert len(column) in ({0} if field.name == "right" else {4, 8})
        assert column.dtype == getattr(parts[0], field.name).dtype


def test_what_was_saved_is_loaded(parts: list[Features], tmp_path: Path) -> None:
    whole = joined(parts)
    whole.save(tmp_path / "deep" / "rows.safetensors")
    loaded = Features.load(tmp_path / "deep" / "rows.safetensors")
    for field in fields(Features):
        before, after = getattr(whole, field.name), getattr(loaded, field.name)
        assert before.dtype == after.dtype
        assert torch.equal(before.nan_to_num(-9), after.nan_to_num(-9))


def test_extraction_equals_closing_by_hand(
    tiny_base_model: MetacogModel, make_rollout: MakeRollout
) -> None:
    """Every label from one packed pass, against one plain pass for each way of closing."""
    base = tiny_base_model.base
    prompt = base.encode("What is 3 + 4?")
    line_end = next(iter(base.tags.line_ends))
    rollouts = []
    for index in range(3):
        made = make_rollout(
            index, think=(*base.encode("15 + 6")[: 3 + index], line_end, 40 + index)
        )
        rollouts.append(replace(made, generation=replace(made.generation, prompt=prompt)))
    temperature = 0.7
    rows = joined(
        list(extract(tiny_base_model, rollouts, temperature=temperature, extra_cuts=1, batch=2))
    )
    by_question = {int(r.question.id[:15], 16): r for r in rollouts}
    assert len(rows.need) == 3
    for point in range(len(rows.prompt)):
        rollout = by_question[int(rows.question[rows.prompt[point]])]
        used, think = int(rows.used[point]), rollout.generation.think
        answer = (*base.encode(rollout.question.answer), base.tokenizer.eos_token_id)
        before = [*prompt, *think[:used]]
        closed = [*before, *base.tags.think_close]
        with torch.no_grad():
            output = base.model(
                input_ids=torch.tensor([[*closed, *answer]]), output_hidden_states=True
            )
        logits = output.logits[0, len(closed) - 1 : -1]
        logits[:, [*base.tags.think_open, *base.tags.think_close]] = -torch.inf
        logprob = (logits / temperature).log_softmax(-1)
        chance = logprob.gather(1, torch.tensor(answer).unsqueeze(1)).sum().exp()
        assert float(rows.ready[point]) == pytest.approx(float(chance), rel=1e-3, abs=1e-7)
        states = torch.stack([h[0, len(before) - 1] for h in output.hidden_states[1:-1]])
        kept = rows.point_states[point, : len(states)].float()
        assert torch.allclose(kept, states, rtol=1e-2, atol=1e-2)
        assert bool(rows.line_end[point]) == (used > 0 and think[used - 1] in base.tags.line_ends)


def test_right_is_known_after_every_token_where_asked_for(
    tiny_base_model: MetacogModel, make_rollout: MakeRollout
) -> None:
    """The values at the points are among those at every token, and points stay the same."""
    rollouts = [make_rollout(index, think=(40, 41, 42, 43)[: index + 2]) for index in range(3)]
    (plain,) = extract(tiny_base_model, rollouts, temperature=1.0)
    (every,) = extract(tiny_base_model, rollouts, temperature=1.0, every_token=True)
    assert plain.right.numel() == 0
    assert len(every.right) == sum(2 + 1 + index for index in range(3))
    assert torch.equal(every.used, plain.used)
    first = torch.tensor([0, 3, 7])
    at_points = every.right[first[every.prompt] + every.used.long()]
    assert torch.allclose(at_points, every.ready, atol=1e-5)
