"""F4: tensors that lie about themselves end in an error that names the file, never in random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from metacog.errors import CheckpointError, ModelError
from metacog.model.base import load_base
from metacog.model.bundle import MetacogModel, load_model
from tests.faults.hostile import (
    MEGABYTE,
    WEIGHTS,
    copied,
    held_memory,
    peak_memory,
    raw_tensors,
    rewrite_json,
    rewrite_tensors,
)

GATE_WEIGHT = "model.layers.1.mlp.gate_proj.weight"


def entry(begin: int, end: int, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> object:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


LIES: dict[str, tuple[object, bytes, int | None]] = {
    "length beyond the file": ({"a": entry(0, 8)}, bytes(8), 10**6),
    "length beyond memory": ({"a": entry(0, 8)}, bytes(8), 10**12),
    "length beyond all numbers": ({"a": entry(0, 8)}, bytes(8), 2**64 - 1),
    "length inside the header": ({"a": entry(0, 8)}, bytes(8), 5),
    "no length": (b"", b"", 0),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), None),
    "same bytes twice": ({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8), None),
    "beyond the end": ({"a": entry(0, 8)}, bytes(4), None),
    "before the beginning": ({"a": entry(-8, 0)}, bytes(8), None),
    "turned round": ({"a": entry(8, 0)}, bytes(8), None),
    "hole": ({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20), None),
    "bytes of nobody": ({"a": entry(0, 8)}, bytes(20), None),
    "shape that does not fit": ({"a": entry(0, 8, (3,))}, bytes(8), None),
    "shape beyond all numbers": ({"a": entry(0, 8, (2**62, 4))}, bytes(8), None),
    "type that is none": ({"a": entry(0, 8, dtype="Q9")}, bytes(8), None),
    "type of another size": ({"a": entry(0, 8, dtype="F64")}, bytes(8), None),
    "name twice": (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
        None,
    ),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", bytes(8), None),
    "no JSON": (b"\xff" * 64, bytes(8), None),
}


@pytest.fixture
def hostile(tiny_directory: Path, tmp_path: Path) -> Path:
    return copied(tiny_directory, tmp_path)


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(hostile: Path, lie: str) -> None:
    raw_tensors(hostile / WEIGHTS, *LIES[lie])
    before = held_memory()
    with pytest.raises(ModelError, match=r"Wanted tensors in .*hostile/model\.safetensors, but"):
        load_base(hostile)
    assert peak_memory() - before < 100 * MEGABYTE


@pytest.mark.parametrize("size", [0, 7, 8, 1000])
def test_a_file_that_is_cut_short(hostile: Path, size: int) -> None:
    (hostile / WEIGHTS).write_bytes((hostile / WEIGHTS).read_bytes()[:size])
    with pytest.raises(ModelError, match=r"Wanted tensors in .*model\.safetensors"):
        load_base(hostile)


def test_a_huge_file_is_refused_without_being_read(hostile: Path) -> None:
    raw_tensors(hostile / WEIGHTS, {"a": entry(0, 8)}, length=10**9)
    with (hostile / WEIGHTS).open("ab") as file:
        file.truncate(10 * 1024 * MEGABYTE)
    before = held_memory()
    with pytest.raises(ModelError, match="Wanted tensors"):
        load_base(hostile)
    assert peak_memory() - before < 100 * MEGABYTE


def fill(value: float, name: str = GATE_WEIGHT) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[3].fill_(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite(hostile: Path, value: float) -> None:
    rewrite_tensors(hostile / WEIGHTS, fill(value))
    with pytest.raises(
        ModelError, match=rf"model\.safetensors, got NaN or infinity in {GATE_WEIGHT}"
    ):
        load_base(hostile)


def test_a_weight_of_whole_numbers(hostile: Path) -> None:
    rewrite_tensors(hostile / WEIGHTS, lambda t: t.update({GATE_WEIGHT: t[GATE_WEIGHT].char()}))
    with pytest.raises(ModelError, match=rf"got torch\.int8 in {GATE_WEIGHT}"):
        load_base(hostile)


@pytest.mark.parametrize("name", [GATE_WEIGHT, "model.norm.weight", "model.embed_tokens.weight"])
def test_a_weight_that_is_missing_is_never_made_up(hostile: Path, name: str) -> None:
    rewrite_tensors(hostile / WEIGHTS, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelError, match=rf"Wanted every weight .*hostile.*got no .*{name}"):
        load_base(hostile)


def test_no_weight_at_all(hostile: Path) -> None:
    save_file({"x": torch.zeros(1)}, hostile / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"got no .*and \d+ more\. Fetch"):
        load_base(hostile)


def test_a_weight_of_another_shape(hostile: Path) -> None:
    rewrite_tensors(hostile / WEIGHTS, lambda t: t.update({GATE_WEIGHT: torch.zeros(3, 2)}))
    with pytest.raises(
        ModelError, match=rf"got {GATE_WEIGHT} of shape \(3, 2\) instead of \(48, 32\)"
    ):
        load_base(hostile)


def test_a_tied_output_embedding_is_not_missing(hostile: Path) -> None:
    assert "lm_head.weight" not in load_file(hostile / WEIGHTS)
    base = load_base(hostile)
    assert torch.equal(base.model.lm_head.weight, base.model.get_input_embeddings().weight)
    rewrite_json(hostile / "config.json", tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"got no lm_head\.weight"):
        load_base(hostile)


def test_shards_are_looked_at_one_by_one(hostile: Path, tiny_directory: Path) -> None:
    tensors = load_file(hostile / WEIGHTS)
    (hostile / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({n: tensors[n] for n in held}, hostile / file, metadata={"format": "pt"})
    weight_map = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {}, "weight_map": weight_map}
    (hostile / f"{WEIGHTS}.index.json").write_text(json.dumps(index), encoding="utf-8")
    whole, sharded = load_base(tiny_directory).model, load_base(hostile).model
    assert all(torch.equal(p, whole.get_parameter(n)) for n, p in sharded.named_parameters())
    rewrite_tensors(hostile / "b.safetensors", fill(float("nan"), names[1]))
    with pytest.raises(ModelError, match=rf"b\.safetensors, got NaN or infinity in {names[1]}"):
        load_base(hostile)
    (hostile / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"Wanted tensors in .*b\.safetensors"):
        load_base(hostile)


@pytest.mark.parametrize("lie", ["overlap", "length beyond memory", "no JSON"])
def test_a_layer_that_lies(
    tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path, lie: str
) -> None:
    tiny_model.save_layer(tmp_path / "layer")
    raw_tensors(tmp_path / "layer" / "metacog.safetensors", *LIES[lie])
    with pytest.raises(CheckpointError, match=r"metacog\.safetensors"):
        load_model(tiny_directory, layer=tmp_path / "layer")
