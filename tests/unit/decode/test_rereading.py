"""When THINK is read again, and what follows from what is read."""

import math

import numpy as np
import pytest
import torch

from metacog.decode.rereading import Rereader, RereadSettings
from metacog.model.bundle import MetacogModel
from metacog.records import RevisionKind
from tests.conftest import MakeModel

THINKING = np.array([True, True, True, False, True, True])
LINE_END = np.array([True, False, True, True, False, True])
USED = np.array([3, 4, 8, 8, 12, 0])


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        (RereadSettings("lines"), [0, 2, 5]),
        (RereadSettings("every", every=4), [1, 2, 4]),
        (RereadSettings("every", every=1), [0, 1, 2, 4]),
        (RereadSettings("every", every=32), []),
        (RereadSettings("none"), []),
    ],
)
def test_rows_that_are_due(
    tiny_model: MetacogModel, settings: RereadSettings, due: list[int]
) -> None:
    rereader = Rereader(tiny_model.reader, settings)
    assert rereader.due(THINKING, LINE_END, USED).tolist() == due


def test_without_a_layer_no_row_is_due() -> None:
    assert len(Rereader(None, RereadSettings("every", every=1)).due(THINKING, LINE_END, USED)) == 0


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    return torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(4))


def test_verdicts_against_the_layers_raw_outputs(
    make_tiny_model: MakeModel, states: torch.Tensor
) -> None:
    """What is neither confident nor hopeless lowers the budget."""
    used = [1, 2, 3, 5, 8, 13, 21, 34]
    plain = make_tiny_model()
    assert plain.reader is not None
    with torch.no_grad():
        raw = plain.reader.layer.reread(states, torch.tensor(used, dtype=torch.float32))
    plain_ready, gain = (
        part.squeeze(1).tolist() for part in (raw.ready_raw, raw.gain_raw.sigmoid())
    )
    bias = -sum(sorted(plain_ready)[3:5]) / 2
    ready = [1 / (1 + math.exp(-(logit + bias))) for logit in plain_ready]
    most = sum(sorted(gain)[3:5]) / 2
    model = make_tiny_model(
        calibration={
            "confident_threshold": most,
            "hopeless_threshold": most,
            "ready_bias": bias,
            "needed_scale": 2.0,
        }
    )
    with torch.no_grad():
        verdicts = Rereader(model.reader, RereadSettings()).read(states, np.array(used))
    for row, verdict in enumerate(verdicts):
        closing = RevisionKind.CONFIDENT if ready[row] >= 0.5 else RevisionKind.HOPELESS
        assert verdict.kind is (closing if gain[row] < most else RevisionKind.LOWERED)
        assert verdict.rereading.used == used[row]
        needed = raw.needed[row].item()
        assert verdict.rereading.needed == pytest.approx(needed)
        assert verdict.rereading.allowed == pytest.approx(2 * needed)
        assert verdict.rereading.ready == pytest.approx(ready[row], abs=1e-6)
        assert verdict.rereading.gain == pytest.approx(gain[row], abs=1e-6)
    assert {verdict.kind for verdict in verdicts} == set(RevisionKind)


def test_an_identity_calibration_only_lowers(
    tiny_model: MetacogModel, states: torch.Tensor
) -> None:
    with torch.no_grad():
        verdicts = Rereader(tiny_model.reader, RereadSettings()).read(states, np.full(8, 5))
    assert {verdict.kind for verdict in verdicts} == {RevisionKind.LOWERED}


@pytest.mark.parametrize(
    ("bias", "kind"), [(20.0, RevisionKind.CONFIDENT), (-20.0, RevisionKind.HOPELESS)]
)
def test_what_is_likely_right_closes_as_confident_and_the_rest_as_hopeless(
    make_tiny_model: MakeModel, states: torch.Tensor, bias: float, kind: RevisionKind
) -> None:
    other = {RevisionKind.CONFIDENT: "hopeless", RevisionKind.HOPELESS: "confident"}[kind]
    both = {"confident_threshold": 1.0, "hopeless_threshold": 1.0, "ready_bias": bias}
    for changes, wanted in (({}, kind), ({f"{other}_threshold": 0.0}, kind)):
        model = make_tiny_model(calibration=both | changes)
        with torch.no_grad():
            verdicts = Rereader(model.reader, RereadSettings()).read(states, np.full(8, 5))
        assert {verdict.kind for verdict in verdicts} == {wanted}
    model = make_tiny_model(calibration=both | {f"{kind.value}_threshold": 0.0})
    with torch.no_grad():
        verdicts = Rereader(model.reader, RereadSettings()).read(states, np.full(8, 5))
    assert {verdict.kind for verdict in verdicts} == {RevisionKind.LOWERED}


def test_without_revise_nothing_follows(make_tiny_model: MakeModel, states: torch.Tensor) -> None:
    model = make_tiny_model(calibration={"confident_threshold": 1.0, "hopeless_threshold": 1.0})
    with torch.no_grad():
        verdicts = Rereader(model.reader, RereadSettings(revise=False)).read(states, np.full(8, 5))
    assert {verdict.kind for verdict in verdicts} == {None}
    assert all(verdict.rereading.used == 5 for verdict in verdicts)
