"""What is run: the base, its metacognitive layer, its gate, and what of the base may learn."""

import re
from typing import Literal

from pydantic import Field, model_validator

from metacog.config.base import (
    Config,
    Count,
    Flag,
    Name,
    PositiveCount,
    PositiveReal,
    PositiveShare,
    Weight,
)

DEFAULT_PLANS = ("direct", "outline", "decompose", "verify")
_PLAN_NAME = re.compile(r"[a-z][a-z0-9_]*")


class ModelConfig(Config):
    """The base: a causal language model and its tokenizer."""

    path: Name = "nano"
    """Directory of a base, a run or a checkpoint, bundled name, or hub id, looked up in this order."""

    base_path: Name | None = None
    """Base of an adapter directory, or null for the one its adapter_config.json names."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Number type of the base; the metacognitive layer always computes in fp32."""

    grad_checkpoint: Flag = False
    """Keep only each block's input for the gradient and recompute the rest in the backward pass: less
    memory, a third more time."""

    flash_attn: Flag = False
    """Attend by flash attention where a gradient is taken; refused where the machine has no CUDA
    device, the package flash-attn is missing, or `precision` is not bf16. Else sdpa."""

    hub_push: Flag = False
    """Allow uploads to the hub. Nothing uploads yet, so true is refused."""


class MetacogConfig(Config):
    """The layer that reads the base and says plan, budget and confidence."""

    linked_all_layers: Flag = True
    """Tap and aggregate every decoder block; false taps the last one only."""

    proj_dim: PositiveCount = 64
    """Width of the trunk's projection, in numbers per block."""

    agg: Literal["attn", "mean"] = "attn"
    """How blocks are weighed: learned attention, or all alike."""

    var_reg: Weight = 1e-4
    """Weight of the penalty on budgets that differ between blocks; keep it at 1e-3 or below."""

    per_layer_weight: Weight = 0.1
    """Weight of each expert's own losses; at 0 experts never learn."""

    plans: tuple[Name, ...] = Field(default=DEFAULT_PLANS, min_length=1)
    """Names of the plans, in the order of the plan head's outputs."""

    budget_scale: Literal["linear", "log"] = "linear"
    """Scale on which the budget head interpolates between `budget.min_tokens` and `max_tokens`."""

    rereadings: Flag = True
    """Read the layer again inside THINK."""

    @model_validator(mode="after")
    def _plans_are_names(self) -> "MetacogConfig":
        if len(set(self.plans)) < len(self.plans):
            raise ValueError("metacog.plans names a plan twice; name each once")
        for plan in self.plans:
            if not _PLAN_NAME.fullmatch(plan):
                raise ValueError(
                    f"metacog.plans wanted lower-case words such as verify, got {plan!r}"
                )
        return self


class FeedbackConfig(Config):
    """The gate: the one write into the base while it thinks."""

    enabled: Flag = True
    """Put the gate in place, in training and in use."""

    layer: Count | None = None
    """Index of the gated decoder block, from 0, or null for the last one."""

    site: Literal["block", "mlp", "attention"] = "block"
    """Which activations of the block are multiplied."""

    switch: Literal["learned", "always"] = "learned"
    """Whether the gate learns, token by token, when to be on."""

    strength: PositiveShare = 0.5
    """Largest relative change of an activation: gamma = 1 + strength * tanh(...)."""


class AdaptationConfig(Config):
    """What of the base may learn beside the layer."""

    enabled: Flag = True
    """Let parts of the base learn."""

    mode: Literal["ln_only", "lora"] = "ln_only"
    """Which parts: the norms, or low-rank adapters."""

    last_k: PositiveCount = 2
    """Blocks that adapt, counted from the last."""

    unfreeze_all: Flag = False
    """Train every parameter of the base; overrides `mode` and `last_k`."""

    lora_rank: PositiveCount = 16
    """Rank of each adapter's two matrices."""

    lora_alpha: PositiveCount = 32
    """An adapter's output counts `lora_alpha / lora_rank` times."""

    lr_multiplier: PositiveReal = 0.05
    """Factor of `run.learning_rate` for unfrozen base weights; keep it at 0.05 or below."""
