"""Loads a base: a causal language model and its left-padded tokenizer, as they lie on disk."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Cache,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from metacog.errors import ModelError
from metacog.model.masks import Mask, masks_for
from metacog.model.refuse import UNREADABLE, read_json, require_harmless
from metacog.model.saving_memory import (
    FLASH,
    attending,
    columns_of,
    enable_recomputing,
    recomputed,
    why_no_flash,
)
from metacog.model.sizes import require_sizes
from metacog.model.weights import require_all_loaded, require_sound_weights, weight_files
from metacog.text.resolve import ResolvedTags, resolve_tags
from metacog.text.template import require_bounded_template

_BLOCK_LISTS = ("layers", "h", "blocks", "block")
_SUBLAYERS = {"mlp": ("mlp", "feed_forward"), "attention": ("self_attn", "attn", "attention")}
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ATTENTIONS = ("sdpa", "eager")


@dataclass(frozen=True)
class Base:
    """A causal language model, its tokenizer, and where its segments' tags lie in the vocabulary."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tags: ResolvedTags
    path: Path
    digest: str
    """sha256 of the weights file, or of all of them in order of their names."""
    attention: str = "sdpa"
    """Attention backend: sdpa takes masks of booleans, eager adds them to scores."""
    recomputes: bool = False
    """Whether blocks keep only their inputs for a gradient; see `recomputing`."""
    flash: bool = False
    """Whether passes with a gradient attend by flash attention."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The decoder blocks, first to last."""
        return decoder_blocks(self.model)

    @property
    def hidden(self) -> int:
        """Width of a block's hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def vocabulary(self) -> int:
        """Rows of the output embedding: the width of the logits."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def pad_id(self) -> int:
        """Id that fills rows up on the left; masked everywhere, so any id serves."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return a text's ids, without anything the tokenizer would put around it."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Iterable[int], *, with_control: bool = False) -> str:
        """Return the text of ids, control tokens left out unless asked for."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=not with_control)
        assert isinstance(text, str)
        return text

    def logits(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        mask: Bool[Tensor, "batch 1 seq width"],
        positions: Int[Tensor, "batch seq"],
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch vocab"]:
        """Run the model and return the logits after the last token of each row, in fp32.

        Args:
            ids: Tokens to read; with a cache, those that are not in it yet.
            mask: True where a token may look: its own column included.
            positions: Position of each token in its row, padding not counted.
            cache: Takes up the tokens' keys and values.
        """
        output = self.model(
            input_ids=ids,
            attention_mask=self._masks(mask, positions),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def hidden_states(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        mask: Bool[Tensor, "batch 1 seq seq"],
        positions: Int[Tensor, "batch seq"],
    ) -> Float[Tensor, "batch seq hidden"]:
        """Run the model without a cache and return its last hidden states, after the final norm."""
        with ExitStack() as ways:
            if self.recomputes and torch.is_grad_enabled():
                ways.enter_context(recomputed(self.blocks))
            masks = self._masks(mask, positions)
            if self.flash and torch.is_grad_enabled():
                ways.enter_context(attending(self.model, FLASH))
                masks = columns_of(mask)
            output = self.model.base_model(
                input_ids=ids, attention_mask=masks, position_ids=positions, use_cache=False
            )
        states: Tensor = output.last_hidden_state
        return states

    def unembed(self, states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows vocab"]:
        """Return the logits of last hidden states, in fp32."""
        logits: Tensor = self.model.get_output_embeddings()(states).float()
        return logits

    def _masks(self, mask: Mask, positions: Int[Tensor, "batch seq"]) -> Tensor | dict[str, Tensor]:
        found = masks_for(self.model.config.get_text_config(), mask, positions)
        if isinstance(found, dict):
            return {kind: self._written(part) for kind, part in found.items()}
        return self._written(found)

    def _written(self, mask: Mask) -> Tensor:
        if self.attention == "eager":
            lowest = torch.finfo(self.model.dtype).min
            return torch.zeros_like(mask, dtype=self.model.dtype).masked_fill(~mask, lowest)
        return mask

    @property
    def context(self) -> int:
        """Longest sequence of tokens that the model was made for."""
        return int(self.model.config.get_text_config().max_position_embeddings)


def for_training(base: Base, *, recomputes: bool, flash: bool) -> Base:
    """Return a base that passes gradients with less memory.

    Args:
        base: As it was loaded.
        recomputes: Keep only each block's input, and compute the rest again in the backward pass.
        flash: Attend by flash attention where a gradient is taken.

    Raises:
        ModelError: If one of them cannot be had.
    """
    if recomputes:
        enable_recomputing(base.model)
    if flash:
        precision = next(name for name, kind in _PRECISIONS.items() if kind == base.model.dtype)
        reason = why_no_flash(precision)
        if reason is not None:
            raise ModelError(f"Wanted flash attention (model.flash_attn), but {reason}.")
    return replace(base, recomputes=recomputes, flash=flash)


def load_base(path: Path, *, precision: str = "fp32", attention: str = "sdpa") -> Base:
    """Load a base from a local directory, without a network call and without running its code.

    Args:
        path: The directory.
        precision: Number type of the weights, fp32 or bf16.
        attention: Attention backend, sdpa or eager.

    Raises:
        ModelError: if the directory holds no model, no weights or no left-padded tokenizer, or
            anything that is refused unread, or one of the choices is none.
    """
    number_type = number_type_of(precision)
    if attention not in _ATTENTIONS:
        raise ModelError(f"Wanted attention to be sdpa or eager, got {attention!r}. Name one.")
    require_harmless(path)
    require_sizes(path)
    require_sound_weights(path)
    tokenizer = load_tokenizer(path)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            dtype=number_type,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the loading info, and refused below
        )
    except UNREADABLE as error:
        raise ModelError(f"The model in {path} cannot be read: {error}") from error
    model: PreTrainedModel
    model, info = loaded
    require_all_loaded(info, path)
    model.eval()
    return Base(model, tokenizer, resolve_tags(tokenizer), path, digest_of(path), attention)


def load_tokenizer(path: Path, config: PretrainedConfig | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a local directory; the caller has looked at the directory's files.

    Args:
        path: The directory.
        config: Of the model it goes with, where that lies elsewhere: it decides on the class too.

    Raises:
        ModelError: if there is none, it says that it pads on the right, or its chat template could run
            for long.
    """
    side = {} if _names_padding_side(path) else {"padding_side": "left"}
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, local_files_only=True, config=config, **side
        )
    except UNREADABLE as error:
        raise ModelError(f"The tokenizer in {path} cannot be read: {error}") from error
    require_bounded_template(tokenizer)
    require_left_padding(tokenizer)
    return tokenizer


def _names_padding_side(path: Path) -> bool:
    """Say whether a tokenizer's files choose a side; where they don't, the left is ours to choose."""
    file = path / "tokenizer_config.json"
    told = read_json(file) if file.is_file() else None
    return isinstance(told, dict) and "padding_side" in told


def number_type_of(precision: str) -> torch.dtype:
    """Return the number type that a precision names.

    Raises:
        ModelError: if it is neither fp32 nor bf16.
    """
    if precision not in _PRECISIONS:
        raise ModelError(f"Wanted precision to be fp32 or bf16, got {precision!r}. Name one.")
    return _PRECISIONS[precision]


def require_left_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that pads on the right: the last token would be padding.

    Raises:
        ModelError: if `padding_side` is not left.
    """
    if tokenizer.padding_side != "left":
        raise ModelError(
            f"Wanted a tokenizer with padding_side 'left', got {tokenizer.padding_side!r} "
            f"({tokenizer.name_or_path}). Set tokenizer.padding_side = 'left' and save it again."
        )


def decoder_blocks(model: PreTrainedModel) -> Sequence[nn.Module]:
    """Return the decoder blocks of a causal language model.

    Raises:
        ModelError: if no list of as many blocks as the configuration names is found.
    """
    wanted = int(model.config.get_text_config().num_hidden_layers)
    for name, module in model.named_modules():
        is_blocks = isinstance(module, nn.ModuleList) and name.split(".")[-1] in _BLOCK_LISTS
        if is_blocks and len(module) == wanted:
            return list(module)
    raise ModelError(
        f"Wanted a list of {wanted} decoder blocks in {type(model).__name__}, found none. "
        "This architecture cannot be tapped."
    )


def gated_module(block: nn.Module, site: str) -> nn.Module:
    """Return the module whose output the gate multiplies: the block, its mlp or its attention.

    Raises:
        ModelError: if the block has no such part.
    """
    if site == "block":
        return block
    children = dict(block.named_children())
    for name in _SUBLAYERS[site]:
        if name in children:
            return children[name]
    raise ModelError(
        f"Wanted a part of {type(block).__name__} named {' or '.join(_SUBLAYERS[site])}, found "
        f"{', '.join(children)}. Set feedback.site to block."
    )


def digest_of(directory: Path) -> str:
    """Return the sha256 of a base's weights, all files in order of their names."""
    digest = hashlib.sha256()
    for file in weight_files(directory):
        digest.update(file.read_bytes())
    return digest.hexdigest()
