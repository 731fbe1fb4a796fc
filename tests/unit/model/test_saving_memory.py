import contextlib

import pytest
import torch

from metacog.decode.batch import causal, left_padded_ids
from metacog.errors import ModelError
from metacog.model.base import for_training, load_base
from metacog.model.bundle import MetacogModel
from metacog.model.saving_memory import (
    attending,
    columns_of,
    enable_recomputing,
    recomputed,
    why_no_flash,
)
from metacog.train.gated import positions_of
from tests.conftest import MakeModel


def test_flash_attention_is_refused_with_what_is_missing(tiny_base_model: MetacogModel) -> None:
    assert "precision" in str(why_no_flash("fp32"))
    assert "CUDA" in str(why_no_flash("bf16")) or torch.cuda.is_available()
    with pytest.raises(ModelError, match=r"flash attention \(model\.flash_attn\), but it computes"):
        for_training(tiny_base_model.base, recomputes=False, flash=True)


def test_columns_say_of_left_padded_rows_what_the_mask_says(
    tiny_base_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]
) -> None:
    """The mask that flash attention takes is one of columns; sdpa understands it too."""
    base = tiny_base_model.base
    ids, valid = left_padded_ids(tiny_prompts, base.pad_id)
    columns = columns_of(causal(valid))
    assert torch.equal(columns, valid.long())
    with torch.no_grad():
        mine = base.hidden_states(ids, mask=causal(valid), positions=positions_of(valid))
        theirs = base.model.base_model(
            input_ids=ids, attention_mask=columns, position_ids=positions_of(valid)
        ).last_hidden_state
    assert torch.allclose(mine[valid], theirs[valid], atol=1e-5)


def test_another_backend_attends_only_inside_the_block(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model().base.model
    with attending(model, "eager"):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"


def test_blocks_leave_the_training_mode_by_an_error_too(make_tiny_model: MakeModel) -> None:
    blocks = list(make_tiny_model().base.blocks)
    with contextlib.suppress(RuntimeError), recomputed(blocks):
        assert all(block.training for block in blocks)
        assert not any(child.training for block in blocks for child in block.children())
        raise RuntimeError
    assert not any(block.training for block in blocks)


def test_a_model_that_cannot_be_recomputed_is_refused(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model().base.model
    model.supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match=r"Set model\.grad_checkpoint to false"):
        enable_recomputing(model)


def test_the_base_is_loaded_in_bf16(make_tiny_model: MakeModel) -> None:
    path = make_tiny_model().base.path
    assert load_base(path, precision="bf16").model.dtype == torch.bfloat16
