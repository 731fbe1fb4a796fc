"""The layer's forward pass that acts: raw outputs, calibrated once, as tensors and as records."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.model.calibration import CalibratedReading, CalibratedRereading, CalibrationBlob
from metacog.model.familiarity import Familiarity
from metacog.model.metacog import MetacogLayer
from metacog.records import PerLayerReading, Reading


class Reader:
    """A layer with the calibration that was fitted to it; serving, evaluation and rollouts read here.

    Training takes losses and gate from `MetacogLayer` itself, which knows no calibration.

    Raises:
        CalibrationError: If the calibration belongs to another layer.
        ValueError: If there are more or fewer names than plans.
    """

    def __init__(
        self,
        layer: MetacogLayer,
        calibration: CalibrationBlob,
        *,
        plans: Sequence[str],
        familiarity: Familiarity | None = None,
    ) -> None:
        calibration.require(layer)
        if len(plans) != layer.shape.num_plans:
            raise ValueError(
                f"A reader wanted {layer.shape.num_plans} plan names, got {len(plans)}. "
                "Use the names that the layer was saved with."
            )
        self.layer = layer
        self.calibration = calibration
        self._report = calibration.report()
        self.plans = tuple(plans)
        self.familiarity = familiarity
        """How much prompts are like the calibration's; None where nobody fitted it."""

    def read(
        self, states: Float[Tensor, "batch layers hidden"], *, telemetry: bool = True
    ) -> CalibratedReading:
        """Return the calibrated reading at the end of the prompt."""
        reading = self.calibration.apply(self.layer.read(states, telemetry=telemetry))
        if self.familiarity is None:
            return reading
        return replace(reading, familiarity=self.familiarity(states))

    def confidence(
        self, reading: CalibratedReading, enforced: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the probability of a right answer at the enforced budgets; infinity is no cap."""
        return self.calibration.believe(self.layer.confidence(reading.raw.g, enforced))

    def reread(
        self,
        states: Float[Tensor, "batch layers hidden"],
        used: Float[Tensor, " batch"],
        *,
        telemetry: bool = False,
    ) -> CalibratedRereading:
        """Return the calibrated re-reading after `used` THINK tokens."""
        raw = self.layer.reread(states, used, telemetry=telemetry)
        return self.calibration.apply_to_rereading(raw)

    def records(
        self, reading: CalibratedReading, enforced: Float[Tensor, " batch"]
    ) -> tuple[Reading, ...]:
        """Return a record a row, with the confidence at the enforced budget in tokens."""
        plan = reading.plan.tolist()
        chosen = reading.chosen.tolist()
        budgets = reading.budget_tokens.round().int().tolist()
        confidence = self.confidence(reading, enforced).tolist()
        alpha = reading.raw.alpha.tolist()
        experts = self._experts(reading)
        known = reading.familiarity
        familiarity = [None] * len(plan) if known is None else known.tolist()
        return tuple(
            Reading(
                plan=dict(zip(self.plans, plan[row], strict=True)),
                chosen_plan=self.plans[chosen[row]],
                budget=budgets[row],
                confidence=confidence[row],
                alpha=tuple(alpha[row]),
                per_layer=experts[row],
                calibration=self._report,
                familiarity=familiarity[row],
            )
            for row in range(len(plan))
        )

    def _experts(self, reading: CalibratedReading) -> list[tuple[PerLayerReading, ...]]:
        """Return the experts' own opinions, uncalibrated: the blob was fitted to the global heads."""
        per_layer = reading.raw.per_layer
        if not per_layer:
            return [()] * len(reading.plan)
        plan = per_layer["plan_logits_pl"].softmax(dim=-1).tolist()
        budget = self.layer.scale.tokens(per_layer["budget_raw_pl"]).squeeze(-1).tolist()
        confidence = torch.sigmoid(per_layer["conf_raw_pl"]).squeeze(-1).tolist()
        alpha = per_layer["alpha"].tolist()
        return [
            tuple(PerLayerReading(tuple(p), b, c, a) for p, b, c, a in zip(*columns, strict=True))
            for columns in zip(plan, budget, confidence, alpha, strict=True)
        ]
