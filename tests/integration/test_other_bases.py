"""Bases as others save them: without a pad token, with few learned positions, tied and saved twice."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from metacog import load
from metacog.errors import InputError, ModelError
from metacog.model.base import load_base
from tests.architectures import build
from tests.faults.hostile import WEIGHTS, copied, rewrite_json

QUESTIONS = ["What is 3 + 4?", "How many bits of 12 are set?", "What is 1 + 2 + 3 + 4 + 5 + 6?"]
POSITIONS = 256


def test_without_a_pad_token_nothing_changes(tiny_directory: Path, tmp_path: Path) -> None:
    bare = copied(tiny_directory, tmp_path)
    rewrite_json(bare / "tokenizer_config.json", pad_token=None)
    assert load_base(bare).tokenizer.pad_token_id is None
    one, other = (load(path).generate(QUESTIONS, budget=9) for path in (tiny_directory, bare))
    assert [reply.generation for reply in one] == [reply.generation for reply in other]


def test_replies_end_where_learned_positions_do(tiny_directory: Path, tmp_path: Path) -> None:
    model = load(build("gpt2", tiny_directory, tmp_path / "gpt2"))
    base = model.model.base
    assert base.context == POSITIONS
    longest = 0
    for words in (60, 110, 117):
        (reply,) = model.generate(["3 " * words], budget=-1)
        longest = max(longest, len(reply.generation.prompt) + len(reply.generation.steps))
        assert longest <= POSITIONS
    assert longest > POSITIONS // 2
    with pytest.raises(InputError, match=f"may hold {POSITIONS} tokens together"):
        model.generate(["3 " * 300], budget=-1)


def test_a_tied_embedding_that_was_saved_twice(tiny_directory: Path, tmp_path: Path) -> None:
    twice = copied(tiny_directory, tmp_path)
    tensors = load_file(twice / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, twice / WEIGHTS, metadata={"format": "pt"})
    found, whole = load_base(twice).model, load_base(tiny_directory).model
    assert found.get_output_embeddings().weight is found.get_input_embeddings().weight
    ids = torch.tensor([[5, 9, 2]])
    assert torch.equal(found(input_ids=ids).logits, whole(input_ids=ids).logits)


def test_a_tokenizer_that_pads_on_the_right_says_what_to_do(
    tiny_directory: Path, tmp_path: Path
) -> None:
    right = copied(tiny_directory, tmp_path)
    rewrite_json(right / "tokenizer_config.json", padding_side="right")
    with pytest.raises(ModelError, match=r"got 'right'.*Set tokenizer\.padding_side = 'left'"):
        load_base(right)


def test_a_tokenizer_that_names_no_side_pads_on_the_left(
    tiny_directory: Path, tmp_path: Path
) -> None:
    silent = copied(tiny_directory, tmp_path)
    file = silent / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    del settings["padding_side"]
    file.write_text(json.dumps(settings), encoding="utf-8")
    assert AutoTokenizer.from_pretrained(silent).padding_side == "right"
    base = load_base(silent)
    assert base.tokenizer.padding_side == "left"
    load(silent).save(tmp_path / "saved")
    assert load(tmp_path / "saved").model.base.tokenizer.padding_side == "left"


def test_without_a_chat_template_a_prompt_is_refused(tiny_directory: Path, tmp_path: Path) -> None:
    bare = copied(tiny_directory, tmp_path)
    (bare / "chat_template.jinja").unlink()
    settings = json.loads((bare / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert "chat_template" not in settings
    with pytest.raises(ModelError, match="without one"):
        load(bare).generate(QUESTIONS)
