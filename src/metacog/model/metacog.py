"""The metacognitive layer: trunk, experts, aggregator and global heads as one module."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metacog.errors import RunError
from metacog.model.aggregate import LayerAggregator
from metacog.model.heads import Experts, GlobalHeads, RereadExperts, RereadHeads
from metacog.model.outputs import LayerOutput, RereadOutput
from metacog.model.scale import BudgetScale
from metacog.model.shape import LayerShape
from metacog.model.trunk import PerLayerTrunk, Phase


class MetacogLayer(nn.Module):
    """Reads the base's hidden states and says plan, budget and confidence.

        z_l   = trunk(h_l)            every block that is read; h_l detached
        g     = sum_l alpha_l z_l
        plan  = A g    budget = b g    confidence = c [g ; spend]
        spend = log(1 + B) / log(1 + B_max)    B the enforced budget within [B_min, B_max], in tokens

    Experts say the same of each z_l. `spend` is scaled to [0, 1] so that it weighs about what a
    component of z does. All of it computes in fp32, under autocast too.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.shape = shape
        self.scale = BudgetScale(shape.budget_min, shape.budget_max, shape.budget_scale)
        self.needed_scale = BudgetScale(0, shape.budget_max, "log")
        proj, num_blocks = shape.proj_dim, len(shape.blocks)
        self.trunk = PerLayerTrunk(shape.hidden, proj, num_blocks)
        self.aggregator = LayerAggregator(
            proj, shape.agg, linked_all_layers=shape.linked_all_layers
        )
        self.experts = Experts(proj, num_blocks, shape.num_plans)
        self.heads = GlobalHeads(proj, shape.num_plans)
        self.reread_experts = RereadExperts(proj, num_blocks)
        self.reread_heads = RereadHeads(proj, shape.reread_hidden)

    def read(
        self,
        states: Float[Tensor, "batch layers hidden"],
        budget: Float[Tensor, " batch"] | None = None,
        *,
        telemetry: bool = True,
    ) -> LayerOutput:
        """Return the reading at the end of the prompt.

        Args:
            states: Last-token states of all L blocks, or of those in `shape.blocks` alone.
            budget: Enforced budgets in tokens at which confidence is meant, infinity for no cap;
                by default the predicted ones, whose head gets no gradient through confidence.
            telemetry: Whether `per_layer` is filled; without it no expert runs.
        """
        with _full_precision(states):
            z = self._project(states, Phase.PROMPT)
            g, alpha = self.aggregator(z)
            plan_logits, budget_raw = self.heads.decide(g)
            tokens = self.scale.tokens(budget_raw).squeeze(-1)
            if bool(tokens.isnan().any()):
                raise RunError(
                    "Wanted a budget from the layer, got NaN: its weights or the states that it reads "
                    "have diverged. Go back to an earlier checkpoint, with a lower run.learning_rate."
                )
            spend = self._spend(tokens.detach() if budget is None else budget)
            return LayerOutput(
                plan_logits=plan_logits,
                budget_raw=budget_raw,
                budget=tokens,
                conf_raw=self.heads.believe(g, spend),
                g=g,
                alpha=self._over_all_blocks(alpha),
                per_layer=self._opinions(z, spend, alpha) if telemetry else {},
            )

    def confidence(
        self, g: Float[Tensor, "batch proj"], budget_tokens: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1"]:
        """Return the logit of ending right at the enforced budgets; infinity means no cap."""
        with _full_precision(g):
            return self.heads.believe(g, self._spend(budget_tokens))

    def reread(
        self,
        states: Float[Tensor, "batch layers hidden"],
        used: Float[Tensor, " batch"],
        *,
        telemetry: bool = True,
    ) -> RereadOutput:
        """Return the re-reading inside THINK, after `used` THINK tokens."""
        with _full_precision(states):
            z = self._project(states, Phase.THINK)
            g, alpha = self.aggregator(z)
            spent = self._feature(used)
            outlook = self.reread_heads(g, spent)
            return RereadOutput(
                needed_raw=outlook.needed_raw,
                needed=self.needed_scale.tokens(outlook.needed_raw).squeeze(-1),
                ready_raw=outlook.ready_raw,
                gain_raw=outlook.gain_raw,
                alpha=self._over_all_blocks(alpha),
                per_layer=self._outlooks(z, spent, alpha) if telemetry else {},
            )

    def _project(
        self, states: Float[Tensor, "batch layers hidden"], phase: Phase
    ) -> Float[Tensor, "batch blocks proj"]:
        blocks, (_, num_given, width) = self.shape.blocks, states.shape
        if num_given not in {self.shape.num_layers, len(blocks)} or width != self.shape.hidden:
            raise ValueError(
                f"The layer wanted states of {self.shape.num_layers} blocks, {self.shape.hidden} "
                f"wide, got {num_given} blocks, {width} wide. Tap the base it was made for."
            )
        dtype = self.trunk.layer_embedding.dtype
        if torch.finfo(dtype).bits < 32:
            raise ValueError(
                f"The layer wanted its own weights in fp32, got {dtype}. Cast the base alone."
            )
        z: Tensor = self.trunk(states[:, -len(blocks) :], phase)
        return z

    def _spend(self, budget: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1"]:
        _refuse_below_zero(budget, "budgets")
        return self._feature(budget.clamp(self.scale.min, self.scale.max))

    def _feature(self, tokens: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1"]:
        _refuse_below_zero(tokens, "token counts")
        dtype = self.trunk.layer_embedding.dtype
        return (torch.log1p(tokens.to(dtype)) / math.log1p(self.scale.max)).unsqueeze(-1)

    def _opinions(
        self,
        z: Float[Tensor, "batch blocks proj"],
        spend: Float[Tensor, "batch 1"],
        alpha: Float[Tensor, "batch blocks"],
    ) -> dict[str, Tensor]:
        opinions = self.experts(z, spend)
        return {
            "plan_logits_pl": opinions.plan_logits,
            "budget_raw_pl": opinions.budget_raw,
            "conf_raw_pl": opinions.conf_raw,
            "alpha": alpha,
        }

    def _outlooks(
        self,
        z: Float[Tensor, "batch blocks proj"],
        spent: Float[Tensor, "batch 1"],
        alpha: Float[Tensor, "batch blocks"],
    ) -> dict[str, Tensor]:
        outlooks = self.reread_experts(z, spent)
        return {
            "needed_raw_pl": outlooks.needed_raw,
            "needed_pl": self.needed_scale.tokens(outlooks.needed_raw),
            "ready_raw_pl": outlooks.ready_raw,
            "gain_raw_pl": outlooks.gain_raw,
            "alpha": alpha,
        }

    def _over_all_blocks(
        self, alpha: Float[Tensor, "batch blocks"]
    ) -> Float[Tensor, "batch layers"]:
        """Put a zero before alpha for every block that is not read."""
        return nn.functional.pad(alpha, (self.shape.num_layers - alpha.shape[1], 0))


def _refuse_below_zero(tokens: Float[Tensor, " batch"], what: str) -> None:
    if not bool((tokens >= 0).all()):
        raise ValueError(
            f"The layer wanted {what} of zero or more tokens, got {tokens.tolist()}. "
            "For no limit name infinity."
        )


def _full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    if not torch.is_autocast_enabled(tensor.device.type):
        return nullcontext()
    return torch.autocast(device_type=tensor.device.type, enabled=False)
