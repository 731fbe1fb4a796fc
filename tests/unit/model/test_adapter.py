"""A PEFT adapter finds its base, becomes one plain model with it, or says what it lacks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from metacog.config import dump, parse
from metacog.errors import CheckpointError, ConfigError, ModelError
from metacog.model.adapter import WEIGHTS_NAME
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.places import ADAPTER_NAME
from metacog.model.step import is_llama_shaped
from metacog.train.checks import refuse_unused
from tests.adapters import peft_model, rewrite, save_adapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
"""What PEFT itself does when the tests call it."""

HUB_ID = "someone/tiny-base"
IDS = torch.tensor([[5, 9, 2, 31, 17]])
GUARD = """
import os, sys

def refuse(event, args):
    if event.startswith("socket."):
        os.write(2, f"a socket is used: {event}".encode())
        os._exit(97)

sys.addaudithook(refuse)
"""
COMMAND = f"{GUARD}\nfrom metacog.cli.main import app\napp(prog_name='metacog')"

MakeAdapter = Callable[..., Path]


@pytest.fixture
def make_adapter(tiny_directory: Path, tmp_path: Path) -> MakeAdapter:
    """Save an adapter with random weights that names a base."""

    def make(base: str | None, **more: object) -> Path:
        return save_adapter(tiny_directory, tmp_path / "adapter", name=base, **more)

    return make


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize(
    "kind",
    [{}, {"use_dora": True}, {"use_rslora": True}, {"modules_to_save": ["gate_proj"]}],
    ids=["plain", "dora", "rslora", "whole modules"],
)
def test_the_merged_model_says_what_pefts_own_says(
    make_adapter: MakeAdapter, tiny_directory: Path, kind: dict[str, object]
) -> None:
    adapter = make_adapter(None, **kind)
    found = load_model(adapter, base_path=tiny_directory).base
    wanted = logits(peft_model(tiny_directory, adapter))
    torch.testing.assert_close(logits(found.model), wanted, atol=1e-5, rtol=0)
    assert not torch.allclose(wanted, logits(load_model(tiny_directory).base.model), atol=0.1)


def test_nothing_of_peft_is_left_on_the_model(
    make_adapter: MakeAdapter, tiny_base_model: MetacogModel, tiny_directory: Path
) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    adapter = make_adapter(str(tiny_directory))
    torch.random.set_rng_state(before)
    found = load_model(adapter).base
    assert torch.equal(torch.random.get_rng_state(), before)
    bare = tiny_base_model.base.model
    kinds = [(name, type(part)) for name, part in found.model.named_modules()]
    assert kinds == [(name, type(part)) for name, part in bare.named_modules()]
    assert not any(part.training or part._forward_hooks for part in found.model.modules())
    assert all(parameter.requires_grad for parameter in found.model.parameters())
    assert is_llama_shaped(found)


def test_the_base_that_is_named_goes_before_the_recorded_one(
    make_adapter: MakeAdapter, tiny_directory: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_directory, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    adapter = make_adapter(str(tiny_directory))
    recorded, named = load_model(adapter).base, load_model(adapter, base_path=other).base
    torch.testing.assert_close(logits(named.model), 2 * logits(recorded.model))
    assert named.digest != recorded.digest


def test_a_base_from_the_local_cache_answers_without_a_socket(
    make_adapter: MakeAdapter, tiny_directory: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(HUB_ID)
    cache = tmp_path / "home" / "hub" / "models--someone--tiny-base"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    (cache / "blobs").mkdir()
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(tiny_directory.iterdir())):
        shutil.copyfile(file, cache / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    arguments = ["generate", str(adapter), "What is 3 + 4?", "--budget", "5", "--json"]
    known = run(*arguments, home=tmp_path / "home")
    assert known.returncode == 0, known.stderr
    explicit = run(*arguments, "--base", str(tiny_directory), home=tmp_path / "nothing")
    assert json.loads(known.stdout) == json.loads(explicit.stdout)
    missing = run(*arguments, home=tmp_path / "nothing")
    assert missing.returncode == 2
    for part in (str(adapter), HUB_ID, "--base", "model.base_path"):
        assert part in missing.stderr


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line with a hub cache of its own; a socket ends it."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        env={**plain, "HF_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", [None, "someone/never-fetched", "./no/such/place/at/all"])
def test_a_base_that_is_not_here_is_an_error_of_both_names(
    make_adapter: MakeAdapter, name: str | None
) -> None:
    adapter = make_adapter(name)
    with pytest.raises(ModelError, match=r"adapter in .*adapter goes with the base") as caught:
        load_model(adapter)
    assert (name or "of no name") in str(caught.value)


def test_an_adapter_is_no_base(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    adapter = make_adapter(None)
    other = shutil.copytree(adapter, tmp_path / "other")
    with pytest.raises(ModelError, match=r"other, which is an adapter too"):
        load_model(adapter, base_path=other)


def test_a_base_beside_a_whole_model_is_refused(tiny_directory: Path) -> None:
    with pytest.raises(ModelError, match=r"Wanted an adapter .* base nano, got the whole model"):
        load_model(tiny_directory, base_path="nano")


def test_the_fingerprint_covers_base_and_adapter(
    make_adapter: MakeAdapter, tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path
) -> None:
    tiny_model.save_layer(tmp_path / "layer")
    adapter = make_adapter(str(tiny_directory))
    with pytest.raises(CheckpointError, match="weights_sha256 wanted"):
        load_model(adapter, layer=tmp_path / "layer")
    first = load_model(adapter).base.digest
    rewrite(adapter, lora_alpha=13)
    assert load_model(adapter).base.digest not in {first, tiny_model.base.digest}


def test_a_layer_on_an_adapter_is_saved_and_found_again(
    make_adapter: MakeAdapter, tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(str(tiny_directory))
    model = replace(tiny_model, base=load_model(adapter).base)
    model.save_layer(adapter)
    assert load_model(adapter).reader is not None
    model.save(tmp_path / "whole")
    whole = load_model(tmp_path / "whole")
    assert whole.reader is not None
    assert not (tmp_path / "whole" / ADAPTER_NAME).exists()
    assert torch.equal(logits(whole.base.model), logits(model.base.model))
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", local_files_only=True)
    assert torch.equal(logits(stock.eval()), logits(model.base.model))


def test_a_run_remembers_the_base_of_its_adapter(
    make_adapter: MakeAdapter, tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path
) -> None:
    adapter, folder = make_adapter(None), tmp_path / "run"
    names = {"path": str(adapter), "base_path": str(tiny_directory)}
    config = parse({"model": names, "data": {"tasks": ["gcd"]}}, source="test")
    refuse_unused(config)
    base = load_model(adapter, base_path=tiny_directory).base
    replace(tiny_model, base=base).save_layer(folder / "final")
    (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    found = load_model(folder)
    assert found.reader is not None
    assert found.base.digest == base.digest
    refuse_unused(
        parse(
            {"model": {"path": str(folder), "base_path": "nano"}, "data": {"tasks": ["gcd"]}},
            source="test",
        )
    )


@pytest.mark.parametrize("objective", ["pretrain", "layer"])
def test_base_path_is_refused_where_it_has_no_use(
    make_adapter: MakeAdapter, tiny_directory: Path, objective: str
) -> None:
    path = make_adapter(None) if objective == "pretrain" else tiny_directory
    settings = {
        "model": {"path": str(path), "base_path": "nano"},
        "data": {"tasks": ["gcd"]},
        "run": {"objective": {"kind": objective}},
    }
    with pytest.raises(ConfigError, match=r"no use for model\.base_path"):
        refuse_unused(parse(settings, source="test"))


LORA_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def change_weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(adapter / WEIGHTS_NAME)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS_NAME)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda a: (a / WEIGHTS_NAME).unlink(), rf"{WEIGHTS_NAME}, found no such file"),
    "other weights": (
        lambda a: (a / WEIGHTS_NAME).rename(a / "adapter_model.bin"),
        rf"{WEIGHTS_NAME}, found no such file",
    ),
    "torn weights": (
        lambda a: (a / WEIGHTS_NAME).write_bytes((a / WEIGHTS_NAME).read_bytes()[:100]),
        rf"Wanted tensors in .*{WEIGHTS_NAME}, but .*damaged",
    ),
    "one tensor gone": (
        lambda a: change_weights(a, lambda t: t.pop(LORA_A)),
        rf"{WEIGHTS_NAME} do not fit .*layers\.0\.self_attn\.q_proj\.lora_A\.weight is missing",
    ),
    "one too many": (
        lambda a: change_weights(a, lambda t: t.update(x=torch.zeros(1))),
        rf"{WEIGHTS_NAME} do not fit .*: x is not expected",
    ),
    "wrong shape": (
        lambda a: change_weights(a, lambda t: t.update({LORA_A: torch.zeros(4, 31)})),
        rf"{WEIGHTS_NAME} do not fit .*lora_A\.weight wanted \(4, 32\), got \(4, 31\)",
    ),
    "not finite": (
        lambda a: change_weights(a, lambda t: t[LORA_A].fill_(torch.nan)),
        rf"{WEIGHTS_NAME}, got NaN or infinity in .*lora_A\.weight",
    ),
    "wrong rank": (lambda a: rewrite(a, r=5), r"lora_A\.weight wanted \(5, 32\), got \(4, 32\)"),
    "no rank": (lambda a: rewrite(a, r=0), rf"{ADAPTER_NAME} do not fit"),
    "unknown modules": (
        lambda a: rewrite(a, target_modules=["Wqkv"]),
        rf"(?s){ADAPTER_NAME} do not fit .*Wqkv",
    ),
    "another pattern": (lambda a: rewrite(a, target_modules="(("), rf"{ADAPTER_NAME} do not fit"),
    "another method": (lambda a: rewrite(a, peft_type="PREFIX_TUNING"), r"peft_type PREFIX_TUNING"),
    "foreign code": (
        lambda a: rewrite(a, megatron_config={"x": 1}, megatron_core="antigravity"),
        rf"(?s)settings in .*{ADAPTER_NAME}, but .*megatron_config",
    ),
    "no JSON": (
        lambda a: (a / ADAPTER_NAME).write_text("{"),
        rf"Wanted JSON in .*{ADAPTER_NAME}, but",
    ),
    "no method": (
        lambda a: (a / ADAPTER_NAME).write_text("{}"),
        rf"(?s)settings in .*{ADAPTER_NAME}, but .*peft_type",
    ),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_a_damaged_adapter_names_the_file(
    make_adapter: MakeAdapter, tiny_directory: Path, kind: str
) -> None:
    damage, message = DAMAGE[kind]
    adapter = make_adapter(None)
    damage(adapter)
    with pytest.raises(ModelError, match=message):
        load_model(adapter, base_path=tiny_directory)


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning")
def test_one_use_of_a_shared_embedding_cannot_be_adapted(
    make_adapter: MakeAdapter, tiny_directory: Path
) -> None:
    adapter = make_adapter(str(tiny_directory), target_modules=["q_proj", "lm_head"])
    with pytest.raises(ModelError, match="changes one use of an embedding"):
        load_model(adapter)


def test_a_base_that_cannot_be_read_names_the_adapter(
    make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}", encoding="utf-8")
    adapter = make_adapter(None)
    with pytest.raises(ModelError, match=r"empty.*It is the base of the adapter in .*adapter\."):
        load_model(adapter, base_path=tmp_path / "empty")
