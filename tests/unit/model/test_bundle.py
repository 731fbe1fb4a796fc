"""A base with its layer and gate: what is saved comes back, and what does not fit is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from metacog.config.decoding import BudgetConfig, DecodingConfig, PlanConfig
from metacog.decode.engine import Engine
from metacog.errors import CheckpointError, ModelError
from metacog.model.bundle import DECODING_NAME, MetacogModel, fingerprint, load_model
from metacog.records import Request

DECODING = DecodingConfig(
    budget=BudgetConfig(max_tokens=40, answer_reserve=7), plan=PlanConfig(scale={"verify": 1.5})
)


@pytest.fixture
def saved(tiny_model: MetacogModel, tmp_path: Path) -> Path:
    """A layer's directory, apart from its base."""
    replace(tiny_model, decoding=DECODING).save_layer(tmp_path / "layer")
    return tmp_path / "layer"


def test_what_was_saved_comes_back(
    tiny_model: MetacogModel, tiny_directory: Path, saved: Path
) -> None:
    loaded = load_model(tiny_directory, layer=saved)
    assert loaded.reader is not None
    assert loaded.gate is not None
    assert tiny_model.reader is not None
    assert tiny_model.gate is not None
    pairs = ((loaded.reader.layer, tiny_model.reader.layer), (loaded.gate, tiny_model.gate))
    for module, original in pairs:
        assert not module.training
        assert module.shape == original.shape
        state, wanted = module.state_dict(), original.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert loaded.reader.calibration == tiny_model.reader.calibration
    assert loaded.reader.plans == tiny_model.reader.plans
    assert loaded.decoding == DECODING


def test_it_replies_as_before(
    tiny_model: MetacogModel,
    tiny_directory: Path,
    saved: Path,
    tiny_prompts: tuple[tuple[int, ...], ...],
) -> None:
    loaded = load_model(tiny_directory, layer=saved)
    request = Request(0, tiny_prompts[0], seed=1, max_new_tokens=30, max_answer_tokens=5)
    small = replace(Engine(tiny_model).settings, rows=1)
    replies = [next(Engine(model, small).generate([request])) for model in (tiny_model, loaded)]
    assert replies[0] == replies[1]


def test_a_layer_beside_its_base_is_found(
    tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(tiny_directory, tmp_path / "whole")
    tiny_model.save_layer(whole)
    loaded = load_model(whole)
    assert loaded.reader is not None
    assert loaded.gate is not None
    assert loaded.base.digest == tiny_model.base.digest


def test_a_layer_without_a_gate(
    tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path
) -> None:
    replace(tiny_model, gate=None).save_layer(tmp_path)
    loaded = load_model(str(tiny_directory), layer=tmp_path)
    assert loaded.reader is not None
    assert loaded.gate is None


def test_a_bare_base_has_the_defaults_and_nothing_to_save(
    tiny_base_model: MetacogModel, tmp_path: Path
) -> None:
    assert (tiny_base_model.reader, tiny_base_model.gate) == (None, None)
    assert tiny_base_model.decoding == DecodingConfig()
    with pytest.raises(ModelError, match=r"got a bare base\. Train one"):
        tiny_base_model.save_layer(tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


def test_with_layer_leaves_the_model_as_it_was(
    tiny_model: MetacogModel, tiny_base_model: MetacogModel
) -> None:
    assert tiny_model.reader is not None
    layer, plans = tiny_model.reader.layer, tiny_model.reader.plans
    added = tiny_base_model.with_layer(layer, plans=plans)
    assert added.reader is not None
    assert added.reader.layer is layer
    assert added.gate is None, "a gate belongs to its layer, and is named with it"
    assert added.base is tiny_base_model.base
    assert tiny_base_model.reader is None


def test_a_directory_without_a_layer(tiny_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Wanted a saved layer in .*metacog\.json"):
        load_model(tiny_directory, layer=tmp_path)


def test_a_layer_of_another_base(tiny_directory: Path, saved: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_directory, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(load_model(other).base) != fingerprint(load_model(tiny_directory).base)
    with pytest.raises(CheckpointError, match="weights_sha256 wanted"):
        load_model(other, layer=saved)


def test_decoding_settings_that_are_none(tiny_directory: Path, saved: Path) -> None:
    (saved / DECODING_NAME).write_text('{"budget": {"max_tokns": 3}}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"(?s)decoding settings in .*decoding\.json.*max_tokns"):
        load_model(tiny_directory, layer=saved)
