"""F2: an adapter's directory is data too; its own files are looked at as a base's are."""

import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from metacog.errors import ModelError
from metacog.model.adapter import WEIGHTS_NAME, load_adapted
from tests.adapters import rewrite, save_adapter
from tests.faults.hostile import MEGABYTE, canary_pickle, held_memory, peak_memory, raw_tensors
from tests.faults.test_f4_safetensors import LIES

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def plain(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "adapter"
    return save_adapter(tiny_directory, path, name=str(tiny_directory))


@pytest.fixture
def hostile(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "hostile")


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "optimizer.pt"])
def test_a_pickle_is_never_read(hostile: Path, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    (hostile / name).write_bytes(canary_pickle(canary))
    load_adapted(hostile)
    (hostile / WEIGHTS_NAME).unlink()
    with pytest.raises(ModelError, match="found no such file"):
        load_adapted(hostile)
    (hostile / WEIGHTS_NAME).write_bytes(canary_pickle(canary))
    with pytest.raises(ModelError, match=rf"Wanted tensors in .*{WEIGHTS_NAME}"):
        load_adapted(hostile)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS_NAME, "tokenizer.json"])
def test_a_link_that_leaves_the_directory(hostile: Path, name: str) -> None:
    outside = hostile.parent / "outside"
    (hostile / name).rename(outside) if (hostile / name).exists() else outside.write_text("{}")
    (hostile / name).symlink_to(outside)
    with pytest.raises(ModelError, match=rf"{name} leads to .*outside"):
        load_adapted(hostile)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "tokenizer.json", "merges.txt", "tokenizer.model"]
)
def test_a_file_that_would_fill_memory_is_not_read(hostile: Path, name: str) -> None:
    with (hostile / name).open("ab") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(ModelError, match=rf"at most \d+ bytes in .*{name}, got 10737418240"):
        load_adapted(hostile)


def test_code_and_keys_that_name_code(hostile: Path) -> None:
    (hostile / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["t.T", null]}}')
    with pytest.raises(ModelError, match=r"tokenizer_config\.json, got auto_map"):
        load_adapted(hostile)
    (hostile / "t.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match=r"without code, found .*t\.py"):
        load_adapted(hostile)


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(hostile: Path, lie: str) -> None:
    raw_tensors(hostile / WEIGHTS_NAME, *LIES[lie])
    with pytest.raises(ModelError, match=rf"Wanted tensors in .*{WEIGHTS_NAME}, but"):
        load_adapted(hostile)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 10**12},
        {"r": 10**7},
        {"r": -1},
        {"r": "wide"},
        {"r": 4.5},
        {"rank_pattern": {"q_proj": 10**12}},
        {"layer_replication": [[0, 10**9]]},
        {"lora_alpha": 1e300},
        {"lora_alpha": "much"},
        {"target_modules": "(.+)+x"},
        {"target_modules": "(([a-z_.]+)*)*!"},
        {"target_modules": ".*" * 30 + "!"},
        {"exclude_modules": "(.*)*!"},
        {"alpha_pattern": {"(.*)*!": 1}},
        {"rank_pattern": {"(.+){9,}!": 1}},
        {"layers_pattern": ["(.+)+!"]},
        {"init_lora_weights": "pissa"},
        {"megatron_config": {"x": 1}, "megatron_core": "os"},
    ],
    ids=lambda settings: str(settings)[:40],
)
def test_settings_that_cost_time_or_memory(hostile: Path, settings: dict[str, object]) -> None:
    rewrite(hostile, **settings)
    before, began = held_memory(), time.process_time()
    with pytest.raises(ModelError, match="hostile"):
        load_adapted(hostile)
    assert time.process_time() - began < 10
    assert peak_memory() - before < 500 * MEGABYTE


def test_names_without_end(hostile: Path) -> None:
    rewrite(hostile, target_modules=[f"m{n}" for n in range(2001)])
    with pytest.raises(ModelError, match=r"at most 2000 names of modules .*, got 2001\."):
        load_adapted(hostile)


def test_a_base_is_never_made_deeper(hostile: Path) -> None:
    """A few layers could be repeated without end; PEFT itself would do so."""
    rewrite(hostile, layer_replication=[[0, 2], [1, 3]])
    with pytest.raises(ModelError, match="layer_replication"):
        load_adapted(hostile)


def test_weights_of_whole_numbers(hostile: Path) -> None:
    tensors = load_file(hostile / WEIGHTS_NAME)
    save_file({name: tensor.char() for name, tensor in tensors.items()}, hostile / WEIGHTS_NAME)
    with pytest.raises(ModelError, match=r"torch\.int8"):
        load_adapted(hostile)


def test_a_usual_pattern_still_matches(hostile: Path, plain: Path) -> None:
    rewrite(hostile, target_modules=r"model\.layers\.\d+\.(?:self_attn|mlp)\.(?:q|down)_proj")
    one, other = load_adapted(hostile).model, load_adapted(plain).model
    for name, weight in one.state_dict().items():
        assert weight.equal(other.state_dict()[name])
