"""The recipes for several GPUs, as far as they can be proven without one and without a network."""

from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from transformers import AutoModelForCausalLM, Qwen3Config

from metacog.config import RunConfig, load
from metacog.config.model import DEFAULT_PLANS
from metacog.errors import ConfigError
from metacog.model.adapt import adapt
from metacog.model.base import load_base
from metacog.model.bundle import MetacogModel
from metacog.model.metacog import MetacogLayer
from metacog.text.tokenizer import build_tokenizer
from metacog.train.layer import layer_shape
from metacog.train.preflight import preflight
from metacog.train.processes import joined, strategy_of
from tests.conftest import QUESTIONS, TRACES
from tests.textdata import rows, write_jsonl

RECIPES = Path(__file__).parents[2] / "recipes"
BLOCKS = 28
PER_BLOCK = 16 * (2 * (1024 + 2048) + 2 * (1024 + 1024) + 3 * (1024 + 3072))
"""Numbers in the adapters of a block of Qwen3-0.6B: q and o, k and v, and the three of the MLP."""


def qwen3(**sizes: int) -> Qwen3Config:
    """The structure of Qwen3-0.6B, in its own size or another."""
    whole = {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
    }
    return Qwen3Config(**{**whole, **sizes}, num_hidden_layers=BLOCKS, tie_word_embeddings=True)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-0.6B's structure at a hundredth of its width, with a vocabulary of our own."""
    tokenizer = build_tokenizer(QUESTIONS, TRACES)
    small = qwen3(
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("qwen3")
    AutoModelForCausalLM.from_config(small).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_recipe_for_text_begins_on_a_stand_in(stand_in: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", rows(80))
    config = load(RECIPES / "text-qwen3.yaml", (f"model.path={stand_in}", f"data.path={data}"))
    shown = preflight(config)
    assert shown.sources[0].kind == "prompt/response"
    assert [span.part for span in shown.batch[0]] == ["prompt", "think", "close", "answer"]
    assert len(shown.batch) == config.run.batch * config.run.grad_accum
    groups = {group.name: group for group in shown.groups}
    assert set(groups) == {"layer", "gate", "adapters"}
    per_block = 16 * ((16 + 16) + 2 * (16 + 8) + (16 + 16) + 3 * (16 + 32))
    assert groups["adapters"].parameters == BLOCKS * per_block
    assert groups["adapters"].learning_rate == config.run.learning_rate
    kept = config.model_copy(
        update={"model": config.model.model_copy(update={"grad_checkpoint": False})}
    )
    less, more = shown.memory.activations, preflight(kept).memory.activations
    assert less is not None
    assert more is not None
    assert less < more


def test_the_recipe_for_practice_begins_on_a_stand_in(stand_in: Path, tmp_path: Path) -> None:
    bare = MetacogModel(load_base(stand_in))
    layer = MetacogLayer(layer_shape(bare, RunConfig()))
    bare.with_layer(layer, plans=DEFAULT_PLANS).save(tmp_path / "model")
    config = load(RECIPES / "practice-qwen3.yaml", (f"model.path={tmp_path / 'model'}",))
    shown = preflight(config)
    assert {group.name for group in shown.groups} == {"layer", "adapters"}


def test_the_sizes_in_the_documentation_are_those_of_the_model() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(qwen3())
    assert sum(p.numel() for p in model.parameters()) == 596_049_920
    assert BLOCKS * PER_BLOCK == 10_092_544


def test_the_adapters_of_a_base_in_bf16_learn_in_fp32(stand_in: Path) -> None:
    config = load(RECIPES / "text-qwen3.yaml", (f"model.path={stand_in}",))
    base = load_base(stand_in, precision="bf16")
    adapted = adapt(base, config.adaptation)
    assert {p.dtype for p in adapted.adapters} == {torch.float32}
    frozen = {p.dtype for p in base.model.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_the_launcher_s_files_say_what_training_understands(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RECIPES / "accelerate" / f"{name}.yaml"
    arguments = ["--config_file", str(file), "-m", "metacog", "train", "recipe.yaml"]
    parsed, *_ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    for key, value in prepare_multi_gpu_env(parsed).items():
        monkeypatch.setenv(key, value)
    assert parsed.num_processes == 4
    assert strategy_of() == name


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", r"to be no, got bf16; model\.precision"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "use DDP or FSDP2"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", r"set model\.grad_checkpoint instead"),
        ("ACCELERATE_USE_FSDP", "true", "wanted fsdp_version 2, got 1"),
    ],
)
def test_what_training_does_not_understand_is_refused_before_processes_join(
    key: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=message), joined():
        pytest.fail("processes joined under settings that training does not know")
