"""One decode step: each running row's last token through the base, its cache, taps and gate.

Any base runs through its own modules, with hooks for taps and gate. Bases of the Llama shape (Llama,
Mistral, Qwen 2 and 3) run as plain tensor operations on the same weights, which on small models takes
a fraction of the time: there a module call costs more than what it computes.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, scaled_dot_product_attention, silu

from metacog.model.base import Base
from metacog.model.cache import SlotCache, SlotLayer
from metacog.model.gate import FeedbackGate, GateState, gate_in
from metacog.model.masks import window_of
from metacog.model.norms import inverse_rms
from metacog.model.taps import Taps, taps

_Map = tuple[Tensor, Tensor | None]
"""Weight and bias of a linear map."""

TOGETHER = 2**20
"""Bytes up to which maps of one input are laid together. Larger ones would double the base's memory and
gain nothing: there reading weights takes the time, not calls."""

_LLAMA_SHAPED = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_FIXED_ROTARY = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds whose angle at a position does not depend on how long the text is."""


@dataclass(frozen=True)
class Gating:
    """What the gate does to the rows of one step; there is none where no row's token is THINK."""

    gamma: Float[Tensor, "rows hidden"]
    thinking: Bool[Tensor, " rows"]


@dataclass(frozen=True)
class StepOutput:
    """What one step leaves behind."""

    logits: Float[Tensor, "rows vocab"]
    """After each row's token, in fp32."""
    taps: Taps | None
    gate: GateState | None


class ModuleStep:
    """A step through the base's own modules, hooks and all."""

    def __init__(self, base: Base, feedback: FeedbackGate | None, *, tapped: bool) -> None:
        self._base, self._feedback, self._tapped = base, feedback, tapped

    def __call__(
        self,
        tokens: Int[Tensor, " rows"],
        columns: Int[Tensor, " rows"],
        cache: SlotCache,
        gating: Gating | None,
    ) -> StepOutput:
        """Read each row's token at its column of the cache, and say what comes next."""
        with self.attached() as (state, tapped):
            if state is not None and gating is not None:
                state.set(gating.gamma, gating.thinking.unsqueeze(1))
            logits = self._base.logits(
                tokens.unsqueeze(1),
                mask=seen(columns, cache.width).unsqueeze(2),
                positions=columns.unsqueeze(1),
                cache=cache,
            )
        return StepOutput(logits, tapped, state)

    @contextmanager
    def attached(self) -> Iterator[tuple[GateState | None, Taps | None]]:
        """Attach gate and taps for one forward pass; afterwards the base is bare again."""
        with ExitStack() as stack:
            state = None
            if self._feedback is not None:
                state = stack.enter_context(gate_in(self._base, self._feedback))
            yield state, stack.enter_context(taps(self._base.blocks)) if self._tapped else None


class _Norm(NamedTuple):
    """An RMS norm: weight * x / sqrt(mean(x^2) + epsilon)."""

    weight: Tensor
    epsilon: Float[Tensor, ""]


class _Block(NamedTuple):
    """The weights of one block of the Llama shape; a missing one is None."""

    before_attention: _Norm
    qkv: tuple[_Map, ...]
    """Laid together where they are small."""
    num_q: int
    num_k: int
    """Heads of q, and of k and v."""
    qk_norm: _Norm | None
    """For each head of q and then of k, `[heads, head_dim]`."""
    o: _Map
    before_mlp: _Norm
    gate_up: tuple[_Map, ...]
    down: _Map
    scale: float


class LlamaStep:
    """The same step for a base of the Llama shape, without its modules' overhead.

        h = h + attention(norm(h));   h = h + mlp(norm(h))

    It belongs to the modules and weights as they are when it is made: one for each batch.

    Args:
        base: Whose step it is.
        feedback: The gate that acts, if any.
        tapped: Keep every block's state.
        longest: Columns that a row may have.
    """

    def __init__(
        self, base: Base, feedback: FeedbackGate | None, *, tapped: bool, longest: int
    ) -> None:
        self._model: Any = base.model
        self._blocks = [_parts(block) for block in base.blocks]
        self._embedding = self._model.model.embed_tokens.weight
        self._norm, self._head = _norm(self._model.model.norm), _map(self._model.lm_head)
        self._cos, self._sin = _rotary_table(self._model.model, longest)
        self._feedback, self._tapped = feedback, tapped

    def __call__(
        self,
        tokens: Int[Tensor, " rows"],
        columns: Int[Tensor, " rows"],
        cache: SlotCache,
        gating: Gating | None,
    ) -> StepOutput:
        """Read each row's token at its column of the cache, and say what comes next."""
        hidden = embedding(tokens, self._embedding)
        where = self._where(columns, cache.width)
        state = None
        if self._feedback is not None and gating is not None:
            state = GateState(self._feedback)
            state.set(gating.gamma, gating.thinking.unsqueeze(1))
        tapped = Taps(len(self._blocks)) if self._tapped else None
        for index, (block, slots) in enumerate(zip(self._blocks, cache.slots, strict=True)):
            attended = _attend(block, hidden, where, slots)
            hidden = hidden + _gated(state, index, "attention", attended)
            hidden = hidden + _gated(state, index, "mlp", _mlp(block, hidden))
            hidden = _gated(state, index, "block", hidden)
            if tapped is not None:
                tapped.record(index, hidden.unsqueeze(1))
        last = _normed(hidden, self._norm)
        return StepOutput(linear(last, *self._head).float(), tapped, state)

    def _where(self, columns: Int[Tensor, " rows"], width: int) -> "_Where":
        return _Where(
            rows=torch.arange(len(columns), device=columns.device),
            columns=columns,
            width=width,
            cos=self._cos[columns],
            sin=self._sin[columns],
            mask=seen(columns, width).unsqueeze(1) if len(columns) > 1 else None,
        )


Stepper = ModuleStep | LlamaStep
"""Reads each row's token at its column of the cache, and says what comes next."""


def stepper_of(base: Base, feedback: FeedbackGate | None, *, tapped: bool, longest: int) -> Stepper:
    """Return the fastest step that computes what the base computes."""
    if is_llama_shaped(base):
        return LlamaStep(base, feedback, tapped=tapped, longest=longest)
    return ModuleStep(base, feedback, tapped=tapped)


def is_llama_shaped(base: Base) -> bool:
    """Return whether `LlamaStep` computes what the base's own modules do.

    Adapters and quantised maps are no plain linear maps: such a base runs through its modules.
    """
    config = base.model.config
    return (
        config.model_type in _LLAMA_SHAPED
        and all(_is_plain(block) for block in base.blocks)
        and base.attention == "sdpa"
        and config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in _FIXED_ROTARY
        and window_of(config) is None
    )


def _is_plain(block: nn.Module) -> bool:
    named = dict(block.named_modules())
    return all(_is_linear(part) for name, part in named.items() if name.endswith("_proj"))


def _is_linear(part: nn.Module) -> bool:
    return type(part) is nn.Linear or type(part) is LoraLinear


def seen(columns: Int[Tensor, " rows"], width: int) -> Bool[Tensor, "rows 1 width"]:
    """Return which columns each row's newest token sees: its own and all before it."""
    return (torch.arange(width, device=columns.device) <= columns.unsqueeze(1)).unsqueeze(1)


def _gated(
    state: GateState | None, index: int, site: str, states: Float[Tensor, "rows hidden"]
) -> Float[Tensor, "rows hidden"]:
    if state is None or (state.gate.shape.layer, state.gate.shape.site) != (index, site):
        return states
    return state.apply(states.unsqueeze(1)).squeeze(1)


class _Where(NamedTuple):
    """Where the rows of a step stand, the same for all blocks."""

    rows: Int[Tensor, " rows"]
    columns: Int[Tensor, " rows"]
    width: int
    """Columns of the widest row."""
    cos: Float[Tensor, "rows 1 head_dim"]
    sin: Float[Tensor, "rows 1 head_dim"]
    """Its first half negative: turning a vector's halves round then does the rotation."""
    mask: Bool[Tensor, "rows 1 1 width"] | None
    """None for a row alone, which sees every column."""


def _attend(
    block: _Block, hidden: Float[Tensor, "rows hidden"], where: _Where, slots: SlotLayer
) -> Float[Tensor, "rows hidden"]:
    x = _normed(hidden, block.before_attention)
    used, turned = len(hidden), block.num_q + block.num_k
    heads = _through(x, block.qkv).view(used, turned + block.num_k, -1)
    qk = heads[:, :turned]
    if block.qk_norm is not None:
        qk = _normed(qk, block.qk_norm)
    qk = _rotated(qk, where)
    slots.keys[where.rows, :, where.columns] = qk[:, block.num_q :]
    slots.values[where.rows, :, where.columns] = heads[:, turned:]
    out = scaled_dot_product_attention(
        qk[:, : block.num_q].unsqueeze(2),
        slots.keys[:used, :, : where.width],
        slots.values[:used, :, : where.width],
        attn_mask=where.mask,
        scale=block.scale,
        enable_gqa=block.num_q != block.num_k,
    )
    return linear(out.view(used, -1), *block.o)


def _mlp(block: _Block, hidden: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
    x = _normed(hidden, block.before_mlp)
    gate, up = _through(x, block.gate_up).chunk(2, dim=1)
    return linear(silu(gate) * up, *block.down)


def _through(x: Float[Tensor, "rows inputs"], maps: tuple[_Map, ...]) -> Tensor:
    """Return what all maps make of x, side by side."""
    parts = [linear(x, *part) for part in maps]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _rotated(
    x: Float[Tensor, "rows heads head_dim"], where: _Where
) -> Float[Tensor, "rows heads head_dim"]:
    return torch.addcmul(x * where.cos, x.roll(x.shape[-1] // 2, dims=-1), where.sin)


@torch.no_grad()
def _parts(block: Any) -> _Block:
    attention, mlp = block.self_attn, block.mlp
    num_q, num_k = (
        project.out_features // attention.head_dim
        for project in (attention.q_proj, attention.k_proj)
    )
    return _Block(
        before_attention=_norm(block.input_layernorm),
        qkv=_together(attention.q_proj, attention.k_proj, attention.v_proj),
        num_q=num_q,
        num_k=num_k,
        qk_norm=_qk_norm(attention, num_q, num_k),
        o=_map(attention.o_proj),
        before_mlp=_norm(block.post_attention_layernorm),
        gate_up=_together(mlp.gate_proj, mlp.up_proj),
        down=_map(mlp.down_proj),
        scale=attention.scaling,
    )


def _qk_norm(attention: Any, num_q: int, num_k: int) -> _Norm | None:
    named = dict(attention.named_children())
    if "q_norm" not in named:
        return None
    q, k = _norm(named["q_norm"]), _norm(named["k_norm"])
    weight = torch.cat([q.weight.expand(num_q, -1), k.weight.expand(num_k, -1)])
    return _Norm(weight, q.epsilon)


def _norm(module: Any) -> _Norm:
    epsilon = torch.tensor(module.variance_epsilon, device=module.weight.device)
    return _Norm(module.weight, epsilon)


def _together(*modules: Any) -> tuple[_Map, ...]:
    """Return small maps of one input as one map; large ones, or some with a bias, as they are."""
    weights, biases = zip(*map(_map, modules), strict=True)
    biased = [bias for bias in biases if bias is not None]
    if sum(weight.nbytes for weight in weights) > TOGETHER or 0 < len(biased) < len(modules):
        return tuple(zip(weights, biases, strict=True))
    return ((torch.cat(weights), torch.cat(biased) if biased else None),)


@torch.no_grad()
def _rotary_table(inner: Any, longest: int) -> tuple[Tensor, Tensor]:
    """Return cosine and signed sine at every position, `[longest, 1, head_dim]`."""
    weight = inner.embed_tokens.weight
    positions = torch.arange(longest, device=weight.device).unsqueeze(0)
    cos, sin = inner.rotary_emb(weight[:1].unsqueeze(0), positions)
    first, second = sin[0].chunk(2, dim=-1)
    return cos[0].unsqueeze(1), torch.cat((-first, second), dim=-1).unsqueeze(1)


def _map(module: Any) -> _Map:
    if isinstance(module, LoraLinear):
        delta = sum(module.get_delta_weight(name) for name in module.active_adapters)
        weight = module.weight + delta  # an adapter may be fp32 beside a base in bf16
        return weight.to(module.weight.dtype), module.bias
    return module.weight, module.bias


def _normed(states: Tensor, norm: _Norm) -> Tensor:
    scaled = states * inverse_rms(states, norm.epsilon).unsqueeze(-1)
    if scaled.dtype != states.dtype:  # the norm's is fp32
        scaled = scaled.to(states.dtype)
    return scaled * norm.weight
