"""Loading a base, and its logits against those of transformers' own forward pass."""

import hashlib
import json
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from metacog.decode.batch import causal, left_padded_ids
from metacog.errors import ModelError
from metacog.model.base import (
    Base,
    decoder_blocks,
    gated_module,
    load_base,
    require_left_padding,
)
from metacog.model.bundle import MetacogModel
from metacog.model.cache import growing_cache

Prompts = tuple[tuple[int, ...], ...]


@pytest.fixture
def base(tiny_base_model: MetacogModel) -> Base:
    return tiny_base_model.base


@pytest.fixture
def copied(tiny_directory: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_directory, tmp_path / "copied")


@pytest.fixture(scope="module")
def stock(tiny_directory: Path) -> torch.nn.Module:
    """The model as transformers runs it, with masks and positions of its own."""
    return AutoModelForCausalLM.from_pretrained(tiny_directory, local_files_only=True).eval()


@torch.no_grad()
def stock_logits(stock: torch.nn.Module, ids: tuple[int, ...]) -> Tensor:
    return stock(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def own_logits(base: Base, prompts: Prompts) -> Tensor:
    ids, valid = left_padded_ids(prompts, base.pad_id)
    positions = (valid.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return base.logits(ids, mask=causal(valid), positions=positions)


def test_padded_logits_are_those_of_each_prompt_alone(
    base: Base, stock: torch.nn.Module, tiny_prompts: Prompts
) -> None:
    expected = torch.stack([stock_logits(stock, prompt)[-1] for prompt in tiny_prompts])
    torch.testing.assert_close(own_logits(base, tiny_prompts), expected, atol=1e-4, rtol=0)


def test_states_and_unembedding_give_the_logits(
    base: Base, stock: torch.nn.Module, tiny_prompts: Prompts
) -> None:
    ids, valid = left_padded_ids(tiny_prompts[:1], base.pad_id)
    with torch.no_grad():
        states = base.hidden_states(
            ids, mask=causal(valid), positions=torch.arange(ids.shape[1])[None]
        )
        logits = base.unembed(states[0])
    expected = stock_logits(stock, tiny_prompts[0])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_reading_in_two_parts_through_a_cache(
    base: Base, stock: torch.nn.Module, tiny_prompts: Prompts
) -> None:
    prompt = max(tiny_prompts, key=len)
    ids, cache, middle = torch.tensor([prompt]), growing_cache(), 4
    lower = torch.ones(len(prompt), len(prompt), dtype=torch.bool).tril()[None, None]
    positions = torch.arange(len(prompt))[None]
    with torch.no_grad():
        parts = [
            base.logits(
                ids[:, a:b], mask=lower[:, :, a:b, :b], positions=positions[:, a:b], cache=cache
            )
            for a, b in ((0, middle), (middle, len(prompt)))
        ]
    expected = stock_logits(stock, prompt)[[middle - 1, -1]]
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-4, rtol=0)


def test_both_attention_backends_say_the_same(
    base: Base, tiny_directory: Path, tiny_prompts: Prompts
) -> None:
    eager = load_base(tiny_directory, attention="eager")
    chosen = {
        kind: found.model.model.config._attn_implementation
        for kind, found in (("eager", eager), ("sdpa", base))
    }
    assert chosen == {"eager": "eager", "sdpa": "sdpa"}
    torch.testing.assert_close(
        own_logits(eager, tiny_prompts), own_logits(base, tiny_prompts), atol=1e-4, rtol=0
    )


def test_bf16_computes_in_bf16_and_answers_in_fp32(
    tiny_directory: Path, tiny_prompts: Prompts
) -> None:
    half = load_base(tiny_directory, precision="bf16")
    assert half.model.dtype is torch.bfloat16
    assert own_logits(half, tiny_prompts).dtype is torch.float32


def test_what_a_base_says_of_itself(base: Base, tiny_directory: Path) -> None:
    weights = (tiny_directory / "model.safetensors").read_bytes()
    assert base.digest == hashlib.sha256(weights).hexdigest()
    assert (base.hidden, len(base.blocks), base.context) == (32, 3, 1024)
    assert base.vocabulary == len(base.tokenizer)
    assert base.pad_id == base.tokenizer.pad_token_id
    assert base.tags.eos == {base.tokenizer.eos_token_id}
    assert not base.model.training


def test_text_survives_the_way_there_and_back(base: Base) -> None:
    ids = base.encode("so 7\n</plan>")
    assert base.decode(ids, with_control=True) == "so 7\n</plan>"
    assert base.decode(base.encode("so 7")) == "so 7"
    closer = base.tags.think_close
    assert base.decode((*base.encode("7"), *closer)) == "7"
    assert base.decode((*base.encode("7"), *closer), with_control=True) == "7</think>"


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Wanted a model directory .* got .*nowhere"):
        load_base(tmp_path / "nowhere")


def test_a_directory_without_weights(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "metacog.safetensors")
    with pytest.raises(ModelError, match=r"Name a directory that `save_pretrained` wrote"):
        load_base(copied)


def test_a_configuration_of_no_known_model(copied: Path) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": "perpetuum"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"causal language model, got 'perpetuum'"):
        load_base(copied)


def test_padding_on_the_right_is_refused(copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied, local_files_only=True)
    tokenizer.padding_side = "right"
    with pytest.raises(ModelError, match="padding_side 'left', got 'right'"):
        require_left_padding(tokenizer)
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match="padding_side = 'left'"):
        load_base(copied)


def test_parts_of_a_block(base: Base) -> None:
    block = base.blocks[1]
    assert gated_module(block, "block") is block
    assert gated_module(block, "mlp") is block.mlp
    assert gated_module(block, "attention") is block.self_attn
    with pytest.raises(ModelError, match=r"named mlp or feed_forward, found act\."):
        gated_module(torch.nn.Sequential(OrderedDict(act=torch.nn.ReLU())), "mlp")


def test_a_model_without_as_many_blocks(tiny_directory: Path) -> None:
    model = load_base(tiny_directory).model
    assert len(decoder_blocks(model)) == 3
    model.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match=r"list of 5 decoder blocks in Qwen3ForCausalLM"):
        decoder_blocks(model)
