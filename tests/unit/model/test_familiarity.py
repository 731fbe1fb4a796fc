"""Prompts that are like the calibration's, and prompts that are not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metacog.errors import CalibrationError
from metacog.eval.familiarity import FEWEST, fit_familiarity
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.familiarity import (
    FAMILIARITY_NAME,
    Familiarity,
    load_familiarity,
    save_familiarity,
)
from metacog.records import UNFAMILIAR

BASE = "a" * 64
SHAPE = (3, 2)


@pytest.fixture
def by_hand() -> Familiarity:
    """Block 1, mean (1, 2), twice as wide along the first axis."""
    return Familiarity(
        block=1,
        mean=torch.tensor([1.0, 2.0]),
        whitener=torch.tensor([[0.5, 0.0], [0.0, 1.0]]),
        distances=torch.tensor([0.0, 1.0, 1.0, 4.0]),
    )


def states_at(*points: tuple[float, float]) -> torch.Tensor:
    """Return states whose other blocks hold what must not matter."""
    states = torch.full((len(points), 3, 2), 1e6)
    states[:, 1] = torch.tensor(points)
    return states


def test_distance_and_rank_by_hand(by_hand: Familiarity) -> None:
    states = states_at((1.0, 2.0), (3.0, 2.0), (1.0, 4.0), (1.0, 5.0))
    assert by_hand.distance(states).tolist() == [0.0, 1.0, 4.0, 9.0]
    assert by_hand(states).tolist() == pytest.approx([1.0, 4 / 5, 2 / 5, 1 / 5])


def mixed(n: int, seed: int) -> torch.Tensor:
    """Return states of three blocks, correlated and far from normal."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(n, 3, 8, generator=generator).pow(3)
    return raw @ torch.randn(8, 8, generator=torch.Generator().manual_seed(1)) + 5


def test_prompts_like_the_fitted_ones_are_called_unfamiliar_as_rarely_as_promised() -> None:
    found = fit_familiarity(mixed(2000, 0))
    assert found is not None
    assert found.block == 1
    new = found(mixed(20_000, 2))
    for level in (UNFAMILIAR, 0.1, 0.5):
        share = float((new <= level).float().mean())
        assert share == pytest.approx(level, abs=3 * (level * (1 - level) / 1000) ** 0.5)


def test_what_no_single_axis_shows_is_unfamiliar() -> None:
    seen = torch.randn(2000, 3, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3, 2)
    found = fit_familiarity(
        seen + 0.1 * torch.randn(2000, 3, 2, generator=torch.Generator().manual_seed(1))
    )
    assert found is not None
    usual, strange = torch.full((1, 3, 2), 1.0), torch.tensor([[[1.0, -1.0]] * 3])
    assert float(found(usual)) > 0.1
    assert float(found(strange)) == pytest.approx(1 / 1001)


def test_too_few_prompts_say_nothing() -> None:
    assert fit_familiarity(mixed(2 * FEWEST - 1, 0)) is None


def test_it_is_read_as_it_was_written(by_hand: Familiarity, tmp_path: Path) -> None:
    save_familiarity(tmp_path / "f", by_hand, base_sha256=BASE)
    found = load_familiarity(tmp_path / "f", base_sha256=BASE, shape=SHAPE)
    assert found.block == by_hand.block
    for name in ("mean", "whitener", "distances"):
        assert torch.equal(vars(found)[name], vars(by_hand)[name])


@pytest.mark.parametrize(
    "changed",
    [
        {"mean": torch.tensor([0.0, torch.nan])},
        {"whitener": torch.eye(2).double()},
        {"distances": torch.tensor([2.0, 1.0])},
        {"block": 3},
    ],
)
def test_what_does_not_fit_is_refused(
    by_hand: Familiarity, changed: dict[str, object], tmp_path: Path
) -> None:
    wrong = replace(by_hand, **changed)  # type: ignore[arg-type]
    save_familiarity(tmp_path / "f", wrong, base_sha256=BASE)
    with pytest.raises(CalibrationError, match="Wanted finite states"):
        load_familiarity(tmp_path / "f", base_sha256=BASE, shape=SHAPE)


def test_states_of_another_width_are_refused(by_hand: Familiarity, tmp_path: Path) -> None:
    save_familiarity(tmp_path / "f", by_hand, base_sha256=BASE)
    with pytest.raises(CalibrationError, match="4 wide"):
        load_familiarity(tmp_path / "f", base_sha256=BASE, shape=(3, 4))


def test_another_base_and_a_damaged_file_are_refused(by_hand: Familiarity, tmp_path: Path) -> None:
    path = tmp_path / "f"
    save_familiarity(path, by_hand, base_sha256=BASE)
    with pytest.raises(CalibrationError, match="to be made for"):
        load_familiarity(path, base_sha256="b" * 64, shape=SHAPE)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CalibrationError, match="Wanted tensors"):
        load_familiarity(path, base_sha256=BASE, shape=SHAPE)


def test_a_model_keeps_it_and_its_readings_tell(tiny_model: MetacogModel, tmp_path: Path) -> None:
    reader = tiny_model.reader
    assert reader is not None
    layers, hidden = len(tiny_model.base.blocks), tiny_model.base.hidden
    seen = torch.randn(400, layers, hidden, generator=torch.Generator().manual_seed(0))
    model = tiny_model.with_layer(
        reader.layer,
        plans=reader.plans,
        gate=tiny_model.gate,
        familiarity=fit_familiarity(seen),
    )
    model.save(tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert again.reader is not None
    states = torch.cat([seen[:1] * 0, seen[:1] * 50])
    usual, strange = again.reader.records(again.reader.read(states), torch.tensor([9.0, 9.0]))
    assert usual.familiarity is not None
    assert usual.familiarity > UNFAMILIAR > (strange.familiarity or 0) > 0
    tiny_model.save_layer(tmp_path / "saved")
    assert not (tmp_path / "saved" / FAMILIARITY_NAME).exists(), "it belonged to another reading"
    bare = load_model(tmp_path / "saved").reader
    assert bare is not None
    assert bare.records(bare.read(states), torch.tensor([9.0, 9.0]))[0].familiarity is None
