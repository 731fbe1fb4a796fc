import json
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from metacog.errors import CalibrationError, CheckpointError
from metacog.model.calibration import CalibrationBlob, save_calibration
from metacog.model.card import BaseFingerprint, read_card
from metacog.model.store import load_layer, save_layer

PLANS = ("direct", "outline", "verify")
BASE = BaseFingerprint(
    model_type="llama", hidden_size=12, num_layers=5, vocab_size=640, weights_sha256="0" * 64
)


def save(directory, layer, **more) -> None:
    save_layer(directory, layer, plans=PLANS, base=BASE, **more)


def rewrite(directory, change) -> None:
    """Change the stored tensors, and the card so that it names the new file."""
    path = directory / "metacog.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    card = json.loads((directory / "metacog.json").read_text(encoding="utf-8"))
    card["tensors_sha256"] = sha256(path.read_bytes()).hexdigest()
    (directory / "metacog.json").write_text(json.dumps(card), encoding="utf-8")


def test_a_layer_comes_back_bit_for_bit(tmp_path, layer, states) -> None:
    blob = CalibrationBlob.identity(layer)
    save(tmp_path, layer, calibration=blob)
    stored = load_layer(tmp_path, base=BASE)
    assert stored.card.plans == PLANS
    assert stored.card.shape == layer.shape
    assert stored.calibration == blob
    assert torch.equal(stored.layer.read(states).conf_raw, layer.read(states).conf_raw)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(stored.layer.state_dict()[name], tensor)


def test_equal_layers_give_equal_files(tmp_path, layer) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, layer, calibration=CalibrationBlob.identity(layer))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["calibration.json", "metacog.json", "metacog.safetensors"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_modules_beside_the_layer_are_filled(tmp_path, layer) -> None:
    gate, settings = nn.Linear(3, 2), {"layer": 2, "strength": 0.5, "site": "block"}
    save(tmp_path, layer, modules={"gate": gate}, settings={"gate": settings})
    assert read_card(tmp_path).modules == {"gate": settings}
    names = set(load_file(tmp_path / "metacog.safetensors"))
    assert {"gate.weight", "gate.bias", "layer.trunk.inner.weight"} <= names
    filled = nn.Linear(3, 2)
    load_layer(tmp_path, base=BASE, modules={"gate": filled})
    assert torch.equal(filled.weight, gate.weight)
    assert load_layer(tmp_path, base=BASE, without=["gate"]).calibration is None


def test_a_module_more_or_less_is_an_error_that_names_it(tmp_path, layer) -> None:
    save(tmp_path / "with", layer, modules={"gate": nn.Linear(3, 2)})
    with pytest.raises(CheckpointError, match=r"gate\.bias is not expected"):
        load_layer(tmp_path / "with", base=BASE)
    save(tmp_path / "bare", layer)
    with pytest.raises(CheckpointError, match=r"gate\.bias is missing"):
        load_layer(tmp_path / "bare", base=BASE, modules={"gate": nn.Linear(3, 2)})
    with pytest.raises(CheckpointError, match=r"gate\.bias wanted torch.float32 \(4,\), got"):
        load_layer(tmp_path / "with", base=BASE, modules={"gate": nn.Linear(3, 4)})


def test_a_module_may_not_take_the_layers_place(tmp_path, layer) -> None:
    with pytest.raises(ValueError, match="named otherwise than 'layer'"):
        save(tmp_path, layer, modules={"layer": nn.Linear(3, 2)})
    with pytest.raises(ValueError, match="settings of those alone"):
        save(tmp_path, layer, settings={"gate": {"layer": 1}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer.heads.plan.bias"), r"layer\.heads\.plan\.bias is missing"),
        (lambda t: t.update(extra=torch.ones(1)), "extra is not expected"),
        (
            lambda t: t.update({"layer.heads.plan.bias": torch.ones(4)}),
            r"plan\.bias wanted torch.float32 \(3,\), got torch.float32 \(4,\)",
        ),
        (
            lambda t: t.update({"layer.heads.plan.bias": torch.ones(3).half()}),
            "wanted torch.float32 .* got torch.float16",
        ),
        (
            lambda t: t["layer.heads.plan.bias"].fill_(torch.nan),
            r"NaN or infinity in layer\.heads\.plan\.bias",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, layer, change, message) -> None:
    save(tmp_path, layer)
    rewrite(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        load_layer(tmp_path, base=BASE)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_layer_that_diverged_is_not_saved(tmp_path, layer, value) -> None:
    save(tmp_path, layer)
    before = (tmp_path / "metacog.safetensors").read_bytes()
    with torch.no_grad():
        layer.heads.budget.bias.fill_(value)
    with pytest.raises(CheckpointError, match=r"heads\.budget\.bias"):
        save(tmp_path, layer)
    assert (tmp_path / "metacog.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [{"model_type": "qwen3"}, {"vocab_size": 641}, {"num_layers": 6}, {"weights_sha256": "1" * 64}],
)
def test_another_base_is_refused_by_what_differs(tmp_path, layer, change) -> None:
    save(tmp_path, layer)
    other = BaseFingerprint(**(BASE.model_dump() | change))
    key, value = next(iter(change.items()))
    with pytest.raises(CheckpointError, match=f"another base: {key} wanted .*, got {value}"):
        load_layer(tmp_path, base=other)


def test_an_unknown_digest_of_the_base_is_not_compared(tmp_path, layer) -> None:
    save(tmp_path, layer)
    load_layer(tmp_path, base=BaseFingerprint(**(BASE.model_dump() | {"weights_sha256": None})))


def test_a_torn_save_is_seen(tmp_path, layer) -> None:
    save(tmp_path, layer)
    card = (tmp_path / "metacog.json").read_bytes()
    with torch.no_grad():
        layer.heads.budget.bias += 1
    save(tmp_path, layer)
    (tmp_path / "metacog.json").write_bytes(card)
    with pytest.raises(CheckpointError, match="damaged or a save was cut short"):
        load_layer(tmp_path, base=BASE)


@pytest.mark.parametrize("name", ["metacog.json", "metacog.safetensors"])
def test_a_missing_file_is_named(tmp_path, layer, name) -> None:
    save(tmp_path, layer)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_layer(tmp_path, base=BASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 1}, "format_version.*got 1"),
        ({"plans": ["direct"]}, "3 plan names wanted"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"base": BASE.model_dump() | {"hidden_size": 13}}, "a base 12 wide with 5 blocks"),
        ({"tensors_sha256": None}, "tensors_sha256"),
    ],
)
def test_a_card_that_is_wrong_is_refused(tmp_path, layer, change, message) -> None:
    save(tmp_path, layer)
    path = tmp_path / "metacog.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(card | change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        read_card(tmp_path)


def test_tensors_that_are_none_are_refused(tmp_path, layer) -> None:
    save(tmp_path, layer)
    (tmp_path / "metacog.safetensors").write_bytes(b"not tensors at all")
    card = json.loads((tmp_path / "metacog.json").read_text(encoding="utf-8"))
    card["tensors_sha256"] = sha256(b"not tensors at all").hexdigest()
    (tmp_path / "metacog.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(CheckpointError, match="Use another checkpoint"):
        load_layer(tmp_path, base=BASE)


def test_a_calibration_goes_with_its_layer_only(tmp_path, layer) -> None:
    blob = CalibrationBlob.identity(layer)
    save(tmp_path, layer, calibration=blob)
    with torch.no_grad():
        layer.heads.budget.bias += 1
    with pytest.raises(CalibrationError, match="has changed since"):
        save(tmp_path, layer, calibration=blob)
    save(tmp_path, layer)
    assert not (tmp_path / "calibration.json").exists()
    save_calibration(tmp_path / "calibration.json", blob)
    with pytest.raises(CalibrationError, match="has changed since"):
        load_layer(tmp_path, base=BASE)
    assert load_layer(tmp_path, base=BASE, calibrated=False).calibration is None


def test_loading_draws_no_random_number(tmp_path, layer) -> None:
    save(tmp_path, layer)
    before = torch.get_rng_state()
    load_layer(tmp_path, base=BASE)
    assert torch.equal(torch.get_rng_state(), before)
