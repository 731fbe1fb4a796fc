"""F2: sizes in config.json that cannot be end at once, before memory is taken for them."""

import time
from pathlib import Path

import pytest

from metacog.errors import ModelError
from metacog.model.base import load_base
from tests.architectures import ARCHITECTURES, build
from tests.faults.hostile import MEGABYTE, copied, held_memory, peak_memory, rewrite_json

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
)


@pytest.fixture
def hostile(tiny_directory: Path, tmp_path: Path) -> Path:
    return copied(tiny_directory, tmp_path)


def refused(directory: Path) -> str:
    """Load what must be refused within seconds and without memory, and return the message."""
    before, began = held_memory(), time.process_time()
    with pytest.raises(ModelError) as caught:
        load_base(directory)
    assert time.process_time() - began < 5
    assert peak_memory() - before < 300 * MEGABYTE
    return str(caught.value)


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize(
    "value", [10**12, 10**15, 2**62, 2**64, 10**300, 1e12, -1, 0.5, "32", "wide", float("nan")]
)
def test_a_size_that_cannot_be_names_its_key(hostile: Path, key: str, value: object) -> None:
    rewrite_json(hostile / "config.json", **{key: value})
    assert f"Wanted {key} in " in refused(hostile)


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", [0, [], {}, True, [32], 2**20, 10**5])
def test_any_other_size_is_refused_too(hostile: Path, key: str, value: object) -> None:
    rewrite_json(hostile / "config.json", **{key: value})
    assert "hostile" in refused(hostile)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3, "head_dim": None}, "divides its width 32, got 3"),
        ({"num_attention_heads": 0}, "divides its width 32, got 0"),
        ({"num_key_value_heads": 3}, "divides its 2 heads, got 3"),
        ({"num_key_value_heads": 0}, "divides its 2 heads, got 0"),
        ({"intermediate_size": 10**6}, r"numbers, but the files beside it hold"),
        ({"hidden_size": 2**20, "num_attention_heads": 2}, "numbers, but the files beside it hold"),
        ({"text_config": {"hidden_size": 10**12}}, "Wanted hidden_size in"),
    ],
)
def test_sizes_that_do_not_go_together(
    hostile: Path, changes: dict[str, object], message: str
) -> None:
    rewrite_json(hostile / "config.json", **changes)
    assert message in refused(hostile)


@pytest.mark.parametrize(
    ("name", "key"),
    [("gpt2", "n_embd"), ("gpt2", "n_layer"), ("gpt2", "n_head"), ("gpt-neox", "hidden_size")],
)
def test_other_names_of_sizes(tiny_directory: Path, tmp_path: Path, name: str, key: str) -> None:
    directory = build(name, tiny_directory, tmp_path / "hostile")
    rewrite_json(directory / "config.json", **{key: 10**12})
    assert f"Wanted {key} in " in refused(directory)


def test_learned_positions_beyond_the_weights(tiny_directory: Path, tmp_path: Path) -> None:
    directory = build("gpt2", tiny_directory, tmp_path / "hostile")
    rewrite_json(directory / "config.json", n_positions=10**9)
    assert "numbers, but the files beside it hold" in refused(directory)


@pytest.mark.parametrize("value", [10**15, "many", -1, 1.5, 0])
def test_a_context_is_whole_and_not_negative(hostile: Path, value: object) -> None:
    """A context beyond all memory is no fault where nothing is learned for its positions."""
    rewrite_json(hostile / "config.json", max_position_embeddings=value)
    if value in {10**15, 0}:
        assert load_base(hostile).context == value
    else:
        assert "max_position_embeddings" in refused(hostile)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_that_are_right_pass(tiny_directory: Path, tmp_path: Path, name: str) -> None:
    assert load_base(build(name, tiny_directory, tmp_path / "whole")).hidden == 32
