"""The rule of a batch equals the rule of one reply, token for token."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from metacog.decode.batch_budget import SEGMENTS, BatchController, BatchDecision
from metacog.decode.budget import BudgetController, ControllerSettings, Decision, Landing
from metacog.errors import BudgetExceeded
from metacog.records import BudgetSource, Rereading, RevisionKind, Segment
from metacog.text.resolve import ResolvedTags
from tests.unit.decode.streams import (
    SINGLE,
    TAGS,
    Controls,
    Terms,
    allowed,
    controller_of,
    controls_of,
    rereading,
    terms_of,
)

CAPACITY = 3
REPORT = {"requested": None, "predicted": None, "source": BudgetSource.UNCAPPED}


@dataclass
class Pair:
    """One reply under the rule of one, beside its row in the batch."""

    alone: BudgetController
    terms: Terms
    at: int = 0


def decision_of(batch: BatchDecision, row: int) -> Decision:
    forced = int(batch.forced[row])
    biased = batch.bias_rows == row
    ids, values = batch.bias_ids[biased].tolist(), batch.bias_values[biased].tolist()
    return Decision(
        forced=None if forced < 0 else forced,
        suppressed=frozenset(batch.suppressed_ids[batch.suppressed_rows == row].tolist()),
        biases=dict(zip(ids, values, strict=True)),
    )


def in_single_precision(decision: Decision) -> Decision:
    biases = {token: float(np.float32(bias)) for token, bias in decision.biases.items()}
    return replace(decision, biases=biases)


def revise(batch: BatchController, pairs: list[Pair]) -> None:
    revisions = {}
    for row, pair in enumerate(pairs):
        if pair.at in pair.terms.revisions:
            kind, needed = pair.terms.revisions[pair.at]
            revisions[row] = kind, rereading(pair.alone, needed)
    changed = {row for row, said in revisions.items() if pairs[row].alone.revise(*said)}
    assert batch.revise(revisions) == changed


def step(batch: BatchController, pairs: list[Pair]) -> None:
    decisions, chosen = batch.decide(), []
    for row, pair in enumerate(pairs):
        decision = pair.alone.decide()
        assert decision_of(decisions, row) == in_single_precision(decision)
        chosen.append(allowed(pair.terms.stream[pair.at], decision))
    resolved = [pair.alone.resolve(token) for pair, token in zip(pairs, chosen, strict=True)]
    tokens, altered = batch.resolve(np.array(chosen))
    assert list(zip(tokens.tolist(), altered.tolist(), strict=True)) == resolved
    segments = batch.observe(tokens)
    for row, pair in enumerate(pairs):
        assert SEGMENTS[segments[row]] is pair.alone.observe(int(tokens[row]))
        pair.at += 1


def compare(batch: BatchController, pairs: list[Pair]) -> None:
    assert batch.num_rows == len(pairs)
    assert batch.used.tolist() == [pair.alone.used for pair in pairs]
    assert batch.done.tolist() == [pair.alone.done for pair in pairs]
    assert batch.finished.tolist() == [pair.alone.finished for pair in pairs]
    assert [SEGMENTS[code] for code in batch.segments()] == [p.alone.segment for p in pairs]
    for row, pair in enumerate(pairs):
        assert batch.report(row, **REPORT) == pair.alone.report(**REPORT)


def retire(batch: BatchController, pairs: list[Pair]) -> None:
    """Free the rows that have ended, each filled with the last one."""
    for row in reversed(range(len(pairs))):
        if pairs[row].alone.done:
            last = pairs.pop()
            if row < len(pairs):
                pairs[row] = last
                batch.release(row)
                batch.move(len(pairs), row)
            else:
                batch.release(row)


@profile(max_examples=80, deadline=None)
@given(
    st.sampled_from(TAGS),
    controls_of,
    st.lists(terms_of, min_size=1, max_size=5),
    st.integers(0, 2),
)
def test_a_batch_equals_its_replies_alone(
    tags: ResolvedTags, controls: Controls, replies: list[Terms], begun: int
) -> None:
    settings = wrapping_up(controls.settings(), tags.think_close[:-1][:begun])
    batch, pairs = BatchController(CAPACITY, tags, settings), []
    waiting = list(replies)
    while waiting or pairs:
        if waiting and len(pairs) < CAPACITY:
            terms = waiting.pop()
            batch.admit(
                len(pairs),
                budget=terms.budget,
                max_new_tokens=terms.max_new_tokens,
                max_answer_tokens=terms.max_answer_tokens,
                opening=terms.opening,
            )
            pairs.append(Pair(controller_of(terms, tags, settings), terms))
        revise(batch, pairs)
        step(batch, pairs)
        compare(batch, pairs)
        retire(batch, pairs)


def wrapping_up(settings: ControllerSettings, end: tuple[int, ...]) -> ControllerSettings:
    """Let the wrap-up text, where there is one, end with some ids of the closer."""
    if settings.landing is None:
        return settings
    text = (*settings.landing.text_ids, *end)
    return replace(settings, landing=replace(settings.landing, text_ids=text))


def admitted(controls: ControllerSettings, *budgets: int) -> BatchController:
    batch = BatchController(len(budgets), SINGLE, controls)
    for row, budget in enumerate(budgets):
        batch.admit(row, budget=budget, max_new_tokens=30, max_answer_tokens=9)
    return batch


def test_rows_go_their_own_way() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4), 0, 2, -1)
    assert batch.decide().forced.tolist() == [2, -1, -1]
    batch.observe(np.array([2, 6, 7]))
    assert batch.at_line_end.tolist() == [False, True, False]
    assert batch.thinks_freely().tolist() == [False, True, True]
    batch.observe(np.array([0, 7, 7]))
    assert batch.done.tolist() == [True, False, False]
    assert batch.decide().forced.tolist() == [-1, 2, -1]
    assert batch.used.tolist() == [0, 2, 2]


def test_a_free_row_between_others_does_nothing() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4), 5, 5, 5)
    batch.release(1)
    decision = batch.decide()
    assert 1 not in decision.suppressed_rows
    batch.observe(np.array([7, 7, 7]))
    assert batch.used.tolist() == [1, 0, 1]
    batch.move(2, 1)
    assert batch.num_rows == 2
    assert batch.used.tolist() == [1, 1]


def test_a_row_in_use_or_free_is_refused() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4), 5)
    with pytest.raises(ValueError, match="row 0 is in use"):
        batch.admit(0, budget=1, max_new_tokens=30, max_answer_tokens=9)
    batch.release(0)
    with pytest.raises(ValueError, match="row 0 is free"):
        batch.report(0, **REPORT)


def test_what_is_handed_out_is_a_copy() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4), 5)
    batch.used[0] = 99
    batch.segments()[0] = 2
    assert batch.used.tolist() == [0]
    assert SEGMENTS[batch.segments()[0]] is Segment.THINK


def test_debug_fires_in_any_row() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4, debug=True), 9, 1)
    batch.observe(np.array([7, 7]))
    with pytest.raises(BudgetExceeded, match="row 1"):
        batch.observe(np.array([7, 7]))
    with pytest.raises(AssertionError, match="suppressed"):
        batch.observe(np.array([1, 2]))


def test_debug_fires_where_think_stays_open_beyond_the_limit() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4, debug=True), 9, 9)
    for _ in range(3):
        batch.observe(np.array([7, 7]))
    batch._rows["limit"][1] = 3  # as a revision would that forgot to begin the close
    with pytest.raises(BudgetExceeded, match="open in row 1 after 4 tokens, with a limit of 3"):
        batch.observe(np.array([7, 7]))


def test_debug_fires_also_where_thoughts_are_not_counted() -> None:
    batch = admitted(ControllerSettings(answer_reserve=4, debug=True), 2)
    batch.observe(np.array([7]))
    batch._rows["used"][0] = 0
    batch.observe(np.array([7]))
    with pytest.raises(BudgetExceeded, match="open in row 0 after 3 tokens, with a limit of 2"):
        batch.observe(np.array([7]))


def test_a_revision_touches_its_row_alone() -> None:
    controls = ControllerSettings(answer_reserve=4, landing=Landing(3, 1.0, (8,)))
    batch = admitted(controls, 9, 9)
    batch.observe(np.array([7, 7]))
    said = Rereading(used=1, needed=1.0, ready=0.5, gain=0.5, allowed=1.0)
    assert batch.revise({1: (RevisionKind.LOWERED, said)}) == {1}
    assert batch.decide().forced.tolist() == [-1, 8]
    batch.observe(np.array([7, 8]))
    assert batch.decide().forced.tolist() == [-1, 2]
