"""Invariant 11: what is not known is absent from metrics; it never counts as 0 or 1."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metacog.config.model import MetacogConfig
from metacog.config.run import RunConfig, TrainingConfig
from metacog.data.tasks.questions import Question, draw
from metacog.decode.collect import Rollout
from metacog.decode.rereading import RereadSettings
from metacog.model.bundle import MetacogModel
from metacog.model.metacog import MetacogLayer
from metacog.records import CloseReason, GateReport, Generation, Request
from metacog.train.features import Features, extract, joined
from metacog.train.gate import GateTraining, shortest_right
from metacog.train.layer import LayerTraining
from metacog.train.layer_losses import LayerLosses, batch_of, point_starts
from tests.conftest import MakeModel
from tests.invariants.replies import Prompts, answered, random_features, settings

NAN = math.nan
CONFIG = RunConfig(metacog=MetacogConfig(per_layer_weight=0.0), run=TrainingConfig(batch=5))


def nans(count: int) -> Tensor:
    return torch.full((count,), NAN)


def training_on(model: MetacogModel, features: Features) -> LayerTraining:
    assert model.reader is not None
    torch.manual_seed(0)
    layer = MetacogLayer(model.reader.layer.shape)
    return LayerTraining(layer, model, CONFIG, train=features, validation=features, patience=1)


def metrics_of(training: LayerTraining) -> dict[str, float]:
    """What a step logs, its gradients looked at as well."""
    with training.step(next(training.batches(0))) as result:
        result.loss.backward()
    assert math.isfinite(float(result.loss.detach()))
    grads = [p.grad for p in training.layer.parameters() if p.grad is not None]
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert all(math.isfinite(value) for value in result.metrics.values())
    return dict(result.metrics)


def test_without_a_known_need_there_is_no_budget_loss(tiny_model: MetacogModel) -> None:
    full = metrics_of(training_on(tiny_model, random_features()))
    found = metrics_of(training_on(tiny_model, random_features(need=nans(6), needed=nans(24))))
    gone = {"train/loss_budget", "train/loss_needed", "train/needed_mae"}
    assert gone <= set(full)
    assert not gone & set(found)
    assert {"train/loss_confidence", "train/loss_ready", "train/loss_gain"} <= set(found)


def test_without_any_label_only_what_needs_none_is_logged(tiny_model: MetacogModel) -> None:
    nothing = random_features(
        need=nans(6), needed=nans(24), hope=nans(24), plan=torch.full((6,), -1)
    )
    found = metrics_of(training_on(tiny_model, nothing))
    losses = {name for name in found if name.startswith("train/loss_")}
    assert losses == {
        "train/loss_confidence",
        "train/loss_ready",
        "train/loss_variance",
        "train/loss_style",
    }


def test_unknown_gain_is_left_out_of_the_mean(tiny_model: MetacogModel) -> None:
    hope = torch.linspace(0.1, 0.9, 24)
    hope[torch.arange(24) % 3 == 0] = NAN
    rows = random_features(hope=hope)
    training = training_on(tiny_model, rows)
    logged = training.evaluate()["eval/validation/loss_gain"]
    used = (rows.used > 0) & ~hope.isnan()
    again = training.layer.reread(rows.point_states[used], rows.used[used])
    gain = (hope - rows.ready).clamp(min=0)
    expected = binary_cross_entropy_with_logits(again.gain_raw.squeeze(1), gain[used])
    assert logged == pytest.approx(float(expected.detach()), abs=1e-5)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_one_unknown_need_changes_only_the_known_ones_share(tiny_model: MetacogModel) -> None:
    """The mean over five prompts of six is the mean of those five alone."""
    need = random_features().need.clone()
    need[2] = NAN
    some = training_on(tiny_model, random_features(need=need))
    known = torch.tensor([0, 1, 3, 4, 5])
    losses = LayerLosses(some.layer, some._config)
    reports = [
        losses.reports(rows, batch_of(rows, point_starts(rows), chosen, generator()))[1]
        for rows, chosen in (
            (random_features(need=need), torch.arange(6)),
            (random_features(), known),
        )
    ]
    one, other = (report["budget"] for report in reports)
    assert float(one.count) == float(other.count) == 5
    torch.testing.assert_close(one.total, other.total)


@pytest.fixture(scope="module")
def question() -> Question:
    return next(q for q in (draw("chain_sum", 0, i) for i in range(20)) if q is not None)


@pytest.fixture(scope="module")
def uncapped(tiny_model: MetacogModel, tiny_prompts: Prompts) -> list[Generation]:
    requests = [
        Request(i, tiny_prompts[i % 5], budget=-1, seed=2, max_new_tokens=30, max_answer_tokens=12)
        for i in range(40)
    ]
    how = settings(rows=40, reread=RereadSettings(revise=False))
    return list(answered(tiny_model, requests, how).values())


def rows_of(
    model: MetacogModel, question: Question, replies: Sequence[Generation]
) -> list[Features]:
    """The features of each reply on its own, in their order."""
    return [
        joined(list(extract(model, [Rollout(question, reply, False)], temperature=1.0)))
        for reply in replies
    ]


def test_a_wrong_trace_has_no_need(
    tiny_model: MetacogModel, question: Question, uncapped: list[Generation]
) -> None:
    for rows in rows_of(tiny_model, question, uncapped[:6]):
        assert rows.need.isnan().all(), "a random base is never right"
        assert rows.needed.isnan().all()
        assert ((rows.ready >= 0) & (rows.ready <= 1)).all()


def test_a_trace_that_was_cut_has_no_hope(
    tiny_model: MetacogModel, question: Question, uncapped: list[Generation]
) -> None:
    """What it would have come to at its natural end is not known, whether it then answered or not."""
    by_reason: dict[tuple[CloseReason | None, bool], Generation] = {
        (reply.budget.close_reason, reply.finished): reply for reply in uncapped
    }
    assert {reason for reason, _ in by_reason} == {CloseReason.NATURAL, CloseReason.MAX_TOKENS}
    assert (CloseReason.MAX_TOKENS, True) in by_reason
    for (reason, _), reply in by_reason.items():
        rows = rows_of(tiny_model, question, [reply])[0]
        closed = reason is CloseReason.NATURAL
        assert rows.closed.tolist() == [closed]
        assert rows.hope.isnan().all().item() is not closed


def test_a_failed_rollout_is_learned_from_by_nobody(
    question: Question, uncapped: list[Generation]
) -> None:
    finished = next(reply for reply in uncapped if reply.finished)
    cut = next(reply for reply in uncapped if not reply.finished)
    assert shortest_right([Rollout(question, finished, False)]) == []
    assert shortest_right([Rollout(question, cut, True)]) == []
    assert shortest_right([Rollout(question, finished, True)]) == [finished]


def test_no_validation_replies_give_no_figure(
    make_tiny_model: MakeModel, uncapped: list[Generation]
) -> None:
    model = make_tiny_model()
    assert model.gate is not None
    training = GateTraining(model, model.gate, CONFIG, train=uncapped, validation=[])
    assert training.evaluate() == {}


def test_no_thinking_has_no_coverage(tiny_model: MetacogModel, tiny_prompts: Prompts) -> None:
    request = Request(0, tiny_prompts[0], budget=0, max_new_tokens=12, max_answer_tokens=3)
    silent = answered(tiny_model, [request], settings(telemetry=True))[0]
    assert silent.gate == GateReport(coverage=None, norm=None, saturation=None, per_token=())
    bare = replace(tiny_model, gate=None)
    assert answered(bare, [request], settings())[0].gate is None
    assert answered(tiny_model, [request], settings(gate=False))[0].gate is None
