"""Token streams that a sampler might offer, and a loop that feeds them to a controller."""

from dataclasses import dataclass
from itertools import chain

from hypothesis import strategies as st

from metacog.decode.budget import BudgetController, ControllerSettings, Decision, Landing
from metacog.records import Rereading, RevisionKind, Segment
from metacog.text.resolve import ResolvedTags

VOCABULARY = 10
SINGLE = ResolvedTags((1,), (2,), eos=frozenset({0, 9}), line_ends=frozenset({6}))
DOUBLE = ResolvedTags((1, 3), (2, 4), eos=frozenset({0}), line_ends=frozenset({6, 4}))
TRIPLE = ResolvedTags((1, 5, 4), (1, 3, 4), eos=frozenset({0}), line_ends=frozenset({6}))
"""Opener and closer begin with the same id, as `<think>` and `</think>` may."""

TAGS = (SINGLE, DOUBLE, TRIPLE)
BUDGETS = (-1, 0, 1, 2, 7, 100)

LENGTH = 40
"""Tokens offered; no reply of these tests is longer."""

tokens = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 8, 8, 9]).map(lambda token: (token,))
marks = st.sampled_from([mark for tags in TAGS for mark in (tags.think_open, tags.think_close)])
streams = st.lists(tokens | tokens | marks, max_size=LENGTH).map(
    lambda parts: [*chain.from_iterable(parts), *[7] * LENGTH][:LENGTH]
)


@dataclass(frozen=True)
class Controls:
    """Settings before they are built: the type checker draws random numbers, a strategy may not."""

    min_think: int
    answer_reserve: int
    landing: tuple[int, float, tuple[int, ...]] | None

    def settings(self) -> ControllerSettings:
        landing = None if self.landing is None else Landing(*self.landing)
        return ControllerSettings(self.min_think, self.answer_reserve, landing, debug=True)


controls_of = st.builds(
    Controls,
    min_think=st.sampled_from([0, 1, 3]),
    answer_reserve=st.sampled_from([1, 5]),
    landing=st.none()
    | st.tuples(
        st.integers(1, 6),
        st.sampled_from([0.0, 4.0]),
        st.lists(st.sampled_from([6, 7, 8]), max_size=3).map(tuple),
    ),
)
revisions = st.dictionaries(
    st.integers(0, 20),
    st.tuples(st.sampled_from(list(RevisionKind)), st.floats(-3, 9)),
    max_size=3,
)


@dataclass(frozen=True)
class Terms:
    """What one reply is asked to keep to, and what its sampler and its re-readings do."""

    budget: int
    max_new_tokens: int
    max_answer_tokens: int
    opening: tuple[int, ...]
    stream: list[int]
    revisions: dict[int, tuple[RevisionKind, float]]


terms_of = st.builds(
    Terms,
    budget=st.sampled_from(BUDGETS),
    max_new_tokens=st.integers(4, 30),
    max_answer_tokens=st.integers(1, 9),
    opening=st.lists(st.sampled_from([6, 7, 8]), max_size=3).map(tuple),
    stream=streams,
    revisions=revisions,
)


@dataclass(frozen=True)
class Emitted:
    """One step of a reply."""

    decision: Decision
    token: int
    altered: bool
    segment: Segment


def controller_of(
    terms: Terms, tags: ResolvedTags, settings: ControllerSettings
) -> BudgetController:
    return BudgetController(
        tags,
        settings,
        budget=terms.budget,
        max_new_tokens=terms.max_new_tokens,
        max_answer_tokens=terms.max_answer_tokens,
        opening=terms.opening,
    )


def allowed(offered: int, decision: Decision) -> int:
    """Return the forced token, or the offered one or the next that is not suppressed."""
    if decision.forced is not None:
        return decision.forced
    while offered in decision.suppressed:
        offered = (offered + 1) % VOCABULARY
    return offered


def rereading(controller: BudgetController, needed: float) -> Rereading:
    return Rereading(used=controller.used, needed=needed, ready=0.5, gain=0.5, allowed=needed)


def play(controller: BudgetController, terms: Terms) -> list[Emitted]:
    """Feed a stream to a controller until the reply has ended."""
    steps: list[Emitted] = []
    while not controller.done:
        at = len(steps)
        if at in terms.revisions:
            kind, needed = terms.revisions[at]
            controller.revise(kind, rereading(controller, needed))
        decision = controller.decide()
        token, altered = controller.resolve(allowed(terms.stream[at], decision))
        steps.append(Emitted(decision, token, altered, controller.observe(token)))
    return steps
