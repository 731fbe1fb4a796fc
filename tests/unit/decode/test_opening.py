"""Plan, budget and gate vector of a reply, worked out from the layer's raw outputs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metacog.decode.modulation import Modulation
from metacog.decode.opening import NO_LIMIT, Opener, OpeningSettings
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.model.outputs import LayerOutput
from metacog.records import BudgetSource, Request
from tests.conftest import MakeModel


@pytest.fixture(scope="module")
def states() -> Tensor:
    return torch.randn(6, 3, 32, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module")
def raw(tiny_model: MetacogModel, states: Tensor) -> LayerOutput:
    assert tiny_model.reader is not None
    with torch.no_grad():
        return tiny_model.reader.layer.read(states)


@pytest.fixture(scope="module")
def likeliest(tiny_model: MetacogModel, raw: LayerOutput) -> list[str]:
    assert tiny_model.reader is not None
    return [tiny_model.reader.plans[index] for index in raw.plan_logits.argmax(1).tolist()]


def asked(**changes: object) -> list[Request]:
    return [replace(Request(index, (1, 2)), **changes) for index in range(6)]


@torch.no_grad()
def opened(model: MetacogModel, states: Tensor, **settings: object) -> list:
    return Opener(model, OpeningSettings(**settings)).open(states, asked())


def test_by_default_the_reading_decides(
    tiny_model: MetacogModel, states: Tensor, raw: LayerOutput, likeliest: list[str]
) -> None:
    openings = opened(tiny_model, states)
    assert [o.budget for o in openings] == [round(b) for b in raw.budget.tolist()]
    assert [o.predicted for o in openings] == [o.budget for o in openings]
    assert [o.plan for o in openings] == likeliest
    assert {o.source for o in openings} == {BudgetSource.PREDICTED}
    assert all(o.marks == () for o in openings)
    assert len({o.budget for o in openings}) > 1
    for opening, row in zip(openings, range(6), strict=True):
        assert opening.reading is not None
        assert opening.reading.chosen_plan == opening.plan
        assert opening.reading.per_layer == ()
        plan = raw.plan_logits[row].softmax(-1).tolist()
        assert list(opening.reading.plan.values()) == pytest.approx(plan)


def test_confidence_is_told_at_what_the_replys_limit_leaves(
    tiny_model: MetacogModel, states: Tensor
) -> None:
    opener, close = (
        Opener(tiny_model, OpeningSettings(), 8),
        tiny_model.base.tags.think_close,
    )
    short = asked(budget=NO_LIMIT, max_new_tokens=5 + len(close) + 8)
    said, named = opener.open(states, short), opener.open(states, asked(budget=5))
    free = opener.open(states, asked(budget=NO_LIMIT, max_new_tokens=10_000))
    for one, other, wide in zip(said, named, free, strict=True):
        assert one.reading is not None
        assert other.reading is not None
        assert wide.reading is not None
        assert one.reading.confidence == other.reading.confidence
        assert one.reading.confidence != wide.reading.confidence


def test_the_plan_scales_the_prediction_but_not_below_min_think(
    tiny_model: MetacogModel, states: Tensor, raw: LayerOutput
) -> None:
    opener = Opener(
        tiny_model, OpeningSettings(min_think=3, plan_scale={"verify": 2.0, "direct": 0})
    )
    tokens = raw.budget.tolist()
    with torch.no_grad():
        verify = opener.open(states, asked(plan="verify"))
        direct = opener.open(states, asked(plan="direct"))
        outline = opener.open(states, asked(plan="outline"))
    assert [o.budget for o in verify] == [max(3, round(2 * b)) for b in tokens]
    assert [o.budget for o in direct] == [3] * 6
    assert [o.budget for o in outline] == [max(3, round(b)) for b in tokens]
    assert {o.plan for o in verify} == {"verify"}


@pytest.mark.parametrize(
    ("budget", "source"),
    [(0, BudgetSource.EXPLICIT), (17, BudgetSource.EXPLICIT), (NO_LIMIT, BudgetSource.UNCAPPED)],
)
def test_a_number_wins_over_the_prediction(
    tiny_model: MetacogModel,
    states: Tensor,
    raw: LayerOutput,
    budget: int,
    source: BudgetSource,
) -> None:
    with torch.no_grad():
        openings = Opener(tiny_model, OpeningSettings()).open(states, asked(budget=budget))
    assert {(o.budget, o.source) for o in openings} == {(budget, source)}
    assert [o.predicted for o in openings] == [round(b) for b in raw.budget.tolist()]


def test_a_prediction_may_be_left_unenforced(tiny_model: MetacogModel, states: Tensor) -> None:
    openings = opened(tiny_model, states, use_predicted_budget=False)
    assert {(o.budget, o.source) for o in openings} == {(NO_LIMIT, BudgetSource.UNCAPPED)}
    assert all(o.predicted is not None for o in openings)


def test_confidence_is_meant_at_the_enforced_budget(
    tiny_model: MetacogModel, states: Tensor, raw: LayerOutput
) -> None:
    assert tiny_model.reader is not None
    layer = tiny_model.reader.layer
    opener = Opener(tiny_model, OpeningSettings())
    for budget, meant in ((9, 9.0), (NO_LIMIT, float("inf"))):
        with torch.no_grad():
            openings = opener.open(states, asked(budget=budget))
            expected = layer.confidence(raw.g, torch.full((6,), meant)).sigmoid().squeeze(1)
        found = [o.reading.confidence for o in openings if o.reading is not None]
        assert found == pytest.approx(expected.tolist())


def test_the_gate_vector_comes_from_the_raw_reading(
    make_tiny_model: MakeModel, tiny_model: MetacogModel, states: Tensor, raw: LayerOutput
) -> None:
    """Calibration changes budgets and confidences, never gamma."""
    assert tiny_model.gate is not None
    skewed = make_tiny_model(calibration={"budget_scale": 2.0, "confidence_bias": 3.0})
    with torch.no_grad():
        expected = tiny_model.gate.gamma(raw.g, raw.plan_logits, raw.conf_raw)
    for model in (tiny_model, skewed):
        gammas = [opening.gamma for opening in opened(model, states)]
        torch.testing.assert_close(torch.stack(gammas), expected)
    budgets = [min(24, round(2 * tokens)) for tokens in raw.budget.tolist()]
    assert [opening.budget for opening in opened(skewed, states)] == budgets


def test_the_sampler_is_the_requests_unless_it_is_modulated(
    tiny_model: MetacogModel, states: Tensor
) -> None:
    """lean = 1 - 2 confidence; temperature 0.8 (1 + 0.5 lean), top-p 0.6 + 0.1 lean in THINK."""
    requests = asked(temperature=0.8, top_p=0.6, repetition_penalty=1.1)
    plain = Opener(tiny_model, OpeningSettings())
    moved = Opener(tiny_model, OpeningSettings(modulation=Modulation(0.5, 0.1)))
    with torch.no_grad():
        assert {o.sampler for o in plain.open(states, requests)} == {((0.8, 0.6, 1.1),) * 3}
        openings = moved.open(states, requests)
    for opening in openings:
        assert opening.reading is not None
        lean = 1 - 2 * opening.reading.confidence
        think, *others = opening.sampler
        assert think == pytest.approx((0.8 * (1 + 0.5 * lean), 0.6 + 0.1 * lean, 1.1))
        assert others == [(0.8, 0.6, 1.1)] * 2


def test_without_a_gate_there_is_no_vector(tiny_model: MetacogModel, states: Tensor) -> None:
    assert {o.gamma for o in opened(replace(tiny_model, gate=None), states)} == {None}


def test_marks_are_injected_only_on_request(
    tiny_model: MetacogModel, states: Tensor, likeliest: list[str]
) -> None:
    marks = {plan: (40 + index,) for index, plan in enumerate(sorted(set(likeliest)))}
    assert {o.marks for o in opened(tiny_model, states, plan_marks=marks)} == {()}
    openings = opened(tiny_model, states, plan_marks=marks, inject_plan=True)
    assert [o.marks for o in openings] == [marks[plan] for plan in likeliest]


def test_telemetry_keeps_every_block(tiny_model: MetacogModel, states: Tensor) -> None:
    for opening in opened(tiny_model, states, telemetry=True):
        assert opening.reading is not None
        assert len(opening.reading.per_layer) == 3
        alphas = [block.alpha for block in opening.reading.per_layer]
        assert alphas == pytest.approx(list(opening.reading.alpha))
        assert sum(alphas) == pytest.approx(1)


def test_a_bare_base_caps_what_it_is_told_to(tiny_base_model: MetacogModel) -> None:
    opener = Opener(tiny_base_model, OpeningSettings())
    requests = [Request(0, (1,)), Request(1, (1,), budget=4), Request(2, (1,), budget=NO_LIMIT)]
    openings = opener.open(None, requests)
    assert [(o.budget, o.source) for o in openings] == [
        (NO_LIMIT, BudgetSource.UNCAPPED),
        (4, BudgetSource.EXPLICIT),
        (NO_LIMIT, BudgetSource.UNCAPPED),
    ]
    assert {(o.predicted, o.reading, o.plan, o.gamma) for o in openings} == {(None,) * 4}


def test_an_unknown_plan_is_named_with_those_there_are(
    tiny_model: MetacogModel, tiny_base_model: MetacogModel
) -> None:
    known = Opener(tiny_model, OpeningSettings())
    known.check(Request(0, (1,), plan="verify"))
    with pytest.raises(InputError, match=r"\(direct, outline, decompose, verify\), got 'guess'"):
        known.check(Request(0, (1,), plan="guess"))
    with pytest.raises(InputError, match=r"none, as it has no layer\), got 'verify'"):
        Opener(tiny_base_model, OpeningSettings()).check(Request(0, (1,), plan="verify"))
