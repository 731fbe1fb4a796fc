"""When THINK is read again, and what follows from what is read."""

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
    ready, hope = (part.sigmoid().squeeze(1).tolist() for part in (raw.ready_raw, raw.hope_raw))
    high, low = (sum(sorted(part)[3:5]) / 2 for part in (ready, hope))
    model = make_tiny_model(
        calibration={"confident_threshold": high, "hopeless_threshold": low, "needed_scale": 2.0}
    )
    with torch.no_grad():
        verdicts = Rereader(model.reader, RereadSettings()).read(states, np.array(used))
    for row, verdict in enumerate(verdicts):
        kind = RevisionKind.HOPELESS if hope[row] < low else RevisionKind.LOWERED
        assert verdict.kind is (RevisionKind.CONFIDENT if ready[row] > high else kind)
        assert verdict.rereading.used == used[row]
        assert verdict.rereading.needed == pytest.approx(2 * raw.needed[row].item())
        assert verdict.rereading.ready == pytest.approx(ready[row], abs=1e-6)
        assert verdict.rereading.hope == pytest.approx(hope[row], abs=1e-6)
    assert {verdict.kind for verdict in verdicts} == set(RevisionKind)


def test_an_identity_calibration_only_lowers(
    tiny_model: MetacogModel, states: torch.Tensor
) -> None:
    with torch.no_grad():
        verdicts = Rereader(tiny_model.reader, RereadSettings()).read(states, np.full(8, 5))
    assert {verdict.kind for verdict in verdicts} == {RevisionKind.LOWERED}


def test_confident_goes_before_hopeless(make_tiny_model: MakeModel, states: torch.Tensor) -> None:
    model = make_tiny_model(calibration={"confident_threshold": 0.0, "hopeless_threshold": 1.0})
    with torch.no_grad():
        verdicts = Rereader(model.reader, RereadSettings()).read(states, np.full(8, 5))
    assert {verdict.kind for verdict in verdicts} == {RevisionKind.CONFIDENT}


def test_without_revise_nothing_follows(make_tiny_model: MakeModel, states: torch.Tensor) -> None:
    model = make_tiny_model(calibration={"confident_threshold": 0.0})
    with torch.no_grad():
        verdicts = Rereader(model.reader, RereadSettings(revise=False)).read(states, np.full(8, 5))
    assert {verdict.kind for verdict in verdicts} == {None}
    assert all(verdict.rereading.used == 5 for verdict in verdicts)
