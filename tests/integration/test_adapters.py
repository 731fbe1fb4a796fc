"""LoRA over every linear map of a Qwen2 base, with and without a tokenizer of its own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

from metacog import load
from metacog.cli.main import app
from metacog.errors import ModelError
from metacog.model.adapter import WEIGHTS_NAME
from metacog.model.bundle import load_model
from tests.adapters import TINA, peft_model, save_adapter
from tests.architectures import build

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

QUESTION = "What is 3 + 4?"
IDS = torch.tensor([[5, 9, 2, 31, 17, 8, 40]])
SCALE = TINA["lora_alpha"] / TINA["r"]


@pytest.fixture
def base(tiny_directory: Path, tmp_path: Path) -> Path:
    return build("qwen2", tiny_directory, tmp_path / "base")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return save_adapter(base, tmp_path / "Tina", name=str(base), **TINA)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


def test_it_is_what_peft_makes_of_it(base: Path, adapter: Path) -> None:
    found = load_model(adapter).base
    torch.testing.assert_close(
        logits(found.model), logits(peft_model(base, adapter)), atol=1e-4, rtol=1e-5
    )


def test_in_bf16_a_weight_is_the_sum_rounded(base: Path, adapter: Path) -> None:
    found = load_model(adapter, precision="bf16").base.model
    weights, parts = load_file(base / "model.safetensors"), load_file(adapter / WEIGHTS_NAME)
    merged = 0
    for name, parameter in found.named_parameters():
        assert parameter.dtype is torch.bfloat16
        lora = f"base_model.model.{name.removesuffix('weight')}lora_"
        wanted, room = weights[name].bfloat16().float(), 0.0
        if f"{lora}A.weight" in parts:
            merged += 1
            change = parts[f"{lora}B.weight"] @ parts[f"{lora}A.weight"] * SCALE
            wanted = wanted + change
            room = 2**-8 * float(change.abs().max())
        torch.testing.assert_close(parameter.float(), wanted, atol=room, rtol=2**-8)
    assert merged == 3 * len(TINA["target_modules"])


def test_in_bf16_it_answers_within_its_budget(adapter: Path) -> None:
    (reply,) = load(adapter, precision="bf16").generate([QUESTION], budget=6, temperature=0.0)
    assert reply.generation.budget.used <= 6


def test_the_library_and_every_verb_take_its_base(base: Path, adapter: Path) -> None:
    elsewhere = base.rename(base.parent / "moved")
    with pytest.raises(ModelError, match="goes with the base"):
        load(adapter)
    (reply,) = load(adapter, base_path=elsewhere).generate([QUESTION], budget=5)
    arguments = ["generate", str(adapter), QUESTION, "--budget", "5", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--base", str(elsewhere)])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["think"] == reply.thinking
    for verb in (["eval"], ["observe"], ["generate"], ["bench", "decode"]):
        assert "--base" in CliRunner().invoke(app, [*verb, "--help"]).stdout


def with_tokenizer(base: Path, adapter: Path, *added: str, **settings: str) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, **settings)
    tokenizer.add_tokens(list(added))
    tokenizer.save_pretrained(adapter)
    return adapter


def test_its_own_tokenizer_is_taken(base: Path, adapter: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    tokenizer.chat_template = "Q: {{ messages[0].content }} A:"
    tokenizer.save_pretrained(adapter)
    found = load(adapter)
    (reply,) = found.generate([QUESTION], budget=0)
    assert found.model.base.decode(reply.generation.prompt).startswith("Q:")


def test_its_own_tokens_come_with_their_embeddings(base: Path, tmp_path: Path) -> None:
    rows = len(load_model(base).base.tokenizer) + 2
    adapter = save_adapter(base, tmp_path / "grown", name=str(base), rows=rows, **TINA)
    with_tokenizer(base, adapter, "<first>", "<second>")
    found = load_model(adapter)
    assert found.base.vocabulary == rows
    assert found.base.encode("<second>") == (rows - 1,)
    saved = load_file(adapter / WEIGHTS_NAME)["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(found.base.model.get_input_embeddings().weight, saved)
    assert found.base.model.get_output_embeddings().weight is (
        found.base.model.get_input_embeddings().weight
    )
    found.save(tmp_path / "whole")
    whole = load_model(tmp_path / "whole").base
    assert torch.equal(logits(whole.model), logits(found.base.model))
    assert whole.encode("<second>") == (rows - 1,)


def test_an_output_of_its_own_is_not_lost_where_the_base_shares_one(
    base: Path, tmp_path: Path
) -> None:
    rows = len(load_model(base).base.tokenizer) + 2
    adapter = save_adapter(base, tmp_path / "grown", name=str(base), rows=rows, **TINA)
    tensors = load_file(adapter / WEIGHTS_NAME)
    read = tensors["base_model.model.model.embed_tokens.weight"]
    tensors["base_model.model.lm_head.weight"] = read + 1
    save_file(tensors, adapter / WEIGHTS_NAME)
    with pytest.raises(ModelError, match="changes one use of an embedding"):
        load_model(adapter)


def test_tokens_without_an_embedding_are_refused(base: Path, adapter: Path) -> None:
    with_tokenizer(base, adapter, "<first>")
    with pytest.raises(ModelError, match=r"Tina has (\d+) tokens, but its base .*save_embedding"):
        load_model(adapter)


def test_a_new_row_of_the_output_is_never_random(tiny_directory: Path, tmp_path: Path) -> None:
    base = build("qwen3", tiny_directory, tmp_path / "untied")
    rows = load_model(base).base.vocabulary + 1
    adapter = save_adapter(
        base, tmp_path / "grown", name=str(base), rows=rows, modules_to_save=["embed_tokens"]
    )
    file = adapter / WEIGHTS_NAME
    tensors = load_file(file)
    head = "base_model.model.lm_head.weight"
    assert tensors.pop(head).shape[0] == rows
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"lm_head\.weight is missing"):
        load_model(adapter)


def test_a_tokenizer_of_another_base_is_refused(base: Path, adapter: Path) -> None:
    with_tokenizer(base, adapter)
    file = adapter / "tokenizer.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    ids = found["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    file.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(ModelError, match=r"gives 2 tokens other ids .*such as 'a'"):
        load_model(adapter)


def test_its_tokenizer_is_looked_at_like_any_other(base: Path, adapter: Path) -> None:
    with_tokenizer(base, adapter, padding_side="right")
    with pytest.raises(ModelError, match=r"padding_side 'left', got 'right' .*Tina"):
        load_model(adapter)
    with_tokenizer(base, adapter)
    (adapter / "chat_template.jinja").write_text("{{ 'x' * 99999999 }}", encoding="utf-8")
    with pytest.raises(ModelError, match="chat template that ends soon"):
        load_model(adapter)
