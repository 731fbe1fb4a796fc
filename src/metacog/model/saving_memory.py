"""Ways of a base to pass a gradient with less memory: activations recomputed, flash attention.

Both act only where a gradient is taken; replies are decoded as ever.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from metacog.errors import ModelError

FLASH = "flash_attention_2"
"""Name that transformers gives it."""


def enable_recomputing(model: PreTrainedModel) -> None:
    """Make a model's blocks ready to keep only their inputs, where `recomputed` asks for it.

    Raises:
        ModelError: If its architecture cannot do so.
    """
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"Wanted a model whose blocks can be recomputed, got {type(model).__name__}. "
            "Set model.grad_checkpoint to false."
        )
    model.activation_checkpointing_enable({"use_reentrant": False})


@contextmanager
def recomputed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Let blocks keep only their inputs in the forward passes inside, and recompute the rest later.

    A block is recomputed when its mode is training. Only the block's own is changed, not that of
    what it is made of, so dropout stays off. Hooks on a block's parts run again when it is recomputed:
    they must still be in place in the backward pass, and say the same.
    """
    for block in blocks:
        block.training = True
    try:
        yield
    finally:
        for block in blocks:
            block.training = False


def why_no_flash(precision: str) -> str | None:
    """Return why flash attention cannot be used here, or None where it can."""
    if precision != "bf16":
        return "it computes in bf16: set model.precision to bf16"
    if not torch.cuda.is_available():
        return "it needs a CUDA device, and there is none"
    if not is_flash_attn_2_available():
        return "it needs the package flash-attn, which is not installed"
    return None


@contextmanager
def attending(model: PreTrainedModel, backend: str) -> Iterator[None]:
    """Let a model attend by another backend inside the block."""
    before = str(model.config.get_text_config()._attn_implementation)  # noqa: SLF001 - no other way to ask
    model.set_attn_implementation(backend)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def columns_of(mask: Bool[Tensor, "batch 1 seq width"]) -> Int[Tensor, "batch width"]:
    """Return which columns hold a token, from what the last token of each row may look at.

    Flash attention is causal by itself and takes no other mask.
    """
    return mask[:, 0, -1].long()
