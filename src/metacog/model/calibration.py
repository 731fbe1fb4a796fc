"""What turns raw outputs into honest ones: one small file, bound to its heads, applied once."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from metacog.errors import CalibrationError
from metacog.model.fitted import FittedTo, Knots, moved
from metacog.model.metacog import MetacogLayer
from metacog.model.outputs import LayerOutput, RereadOutput
from metacog.model.shape import faults_of
from metacog.records import CalibrationReport
from metacog.telemetry.files import write_text

CALIBRATION_NAME = "calibration.json"
VERSION: Final = 3

LIKELY: Final = 0.5
"""Ready from which on an answer counts as likely right."""

Temperature = Annotated[float, Field(gt=0.05, lt=20)]
Factor = Annotated[float, Field(ge=0.05, le=20)]
NeededFactor = Annotated[float, Field(ge=0.05, le=1e6)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class CalibratedReading:
    """A reading after calibration. No calibration accepts it, so none is applied twice."""

    raw: LayerOutput
    """What it was made from: the gate takes its g, plan and confidence from here."""
    plan: Float[Tensor, "batch plans"]
    """Probabilities."""
    chosen: Int[Tensor, " batch"]
    """Index of the plan that passed its threshold."""
    budget_tokens: Float[Tensor, " batch"]
    """Scaled, moved and clipped; not yet rounded."""
    confidence: Float[Tensor, " batch"]
    """Probability of a right answer at the budget of `raw.conf_raw`."""
    familiarity: Float[Tensor, " batch"] | None = None
    """Of the prompts; see `model.familiarity`."""


@dataclass(frozen=True)
class CalibratedRereading:
    """A re-reading after calibration. No calibration accepts it."""

    raw: RereadOutput
    needed_tokens: Float[Tensor, " batch"]
    """THINK tokens still needed."""
    allowed_tokens: Float[Tensor, " batch"]
    """THINK tokens that a budget is lowered to."""
    ready: Float[Tensor, " batch"]
    """Probability of a right answer if THINK closed now."""
    gain: Float[Tensor, " batch"]
    """Probability that going on to the natural end makes right what closing now would leave wrong."""
    confident: Bool[Tensor, " batch"]
    """Likely right, and too little to win: THINK may close."""
    hopeless: Bool[Tensor, " batch"]
    """Likely wrong, and too little to win: THINK may be given up."""


class CalibrationBlob(BaseModel):
    """Numbers fitted after training to the outputs of one layer, named by its digest.

        plan        = softmax(plan_logits); chosen = argmax over plans with p_k >= threshold_k,
                      or over all plans where none passes
        budget      = clip(budget_scale B + budget_offset, low, high)                  [tokens]
        covering    = clip(coverage_scale B, low, high)                                [tokens]
        confidence  = m(sigmoid(conf_raw / confidence_temperature + confidence_bias))
        allowed     = needed_scale * needed                                            [tokens]
        ready       = sigmoid(ready_raw / ready_temperature + ready_bias)
        gain        = sigmoid(gain_raw / gain_temperature + gain_bias)
        confident   = ready >= 1/2 and gain < confident_threshold
        hopeless    = ready < 1/2 and gain < hopeless_threshold

    Temperature and bias are Platt's scaling (1999, "Probabilistic outputs for support vector
    machines", section 2.1), written as in Guo et al. 2017, "On calibration of modern neural
    networks", section 4.2. m runs through `confidence_knots`, straight between them and level beyond
    (isotonic regression, Zadrozny and Elkan 2002); without knots it changes nothing.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    version: Literal[2, 3]
    """Format of the file; version 2 held no knots, no covering scale and no account of its making."""

    heads_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the layer's tensors; see `layer_digest`."""

    plan_thresholds: Annotated[tuple[Probability, ...], Field(min_length=1)]
    """Least probability at which each plan is chosen."""

    budget_scale: Factor
    """Factor of the predicted budget."""

    budget_offset: float
    """Tokens added after the factor."""

    budget_clip: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
    """Smallest and largest budget, in tokens."""

    confidence_temperature: Temperature
    """Divisor of the confidence logit."""

    confidence_bias: float
    """Added to the confidence logit after the division."""

    confidence_knots: Knots = ()
    """Pairs of a probability and what it becomes, in rising order; empty changes nothing."""

    coverage_scale: Factor | None = None
    """Factor of the predicted budget that covers need as often as `fitted` says; None if unknown."""

    fitted: FittedTo | None = None
    """What the numbers were fitted to and what they promise; None where nobody fitted them."""

    ready_temperature: Temperature
    """Divisor of the ready logit."""

    ready_bias: float
    """Added to the ready logit after the division."""

    gain_temperature: Temperature
    """Divisor of the gain logit."""

    gain_bias: float
    """Added to the gain logit after the division."""

    needed_scale: NeededFactor
    """Factor of the tokens still needed; the largest lowers a budget only where none is needed."""

    confident_threshold: Probability
    """THINK may close as confident where gain is below it; 0 never closes."""

    hopeless_threshold: Probability
    """THINK may be given up as hopeless where gain is below it; 0 never gives up."""

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> "CalibrationBlob":
        low, high = self.budget_clip
        if low > high:
            raise ValueError(f"budget_clip wanted low <= high, got {low} and {high}")
        return self

    @classmethod
    def identity(cls, layer: MetacogLayer) -> "CalibrationBlob":
        """Return the blob that changes nothing of what this layer says."""
        return cls(
            version=VERSION,
            heads_sha256=layer_digest(layer),
            plan_thresholds=(0.0,) * layer.shape.num_plans,
            budget_scale=1.0,
            budget_offset=0.0,
            budget_clip=(float(layer.shape.budget_min), float(layer.shape.budget_max)),
            confidence_temperature=1.0,
            confidence_bias=0.0,
            ready_temperature=1.0,
            ready_bias=0.0,
            gain_temperature=1.0,
            gain_bias=0.0,
            needed_scale=1.0,
            confident_threshold=0.0,
            hopeless_threshold=0.0,
        )

    def require(self, layer: MetacogLayer) -> None:
        """Refuse a layer that the blob was not fitted to.

        Raises:
            CalibrationError: If its tensors or its number of plans differ.
        """
        digest = layer_digest(layer)
        if digest != self.heads_sha256:
            raise CalibrationError(
                f"The calibration wanted the layer with sha256 {self.heads_sha256}, got {digest}. "
                "The layer has changed since: run `metacog calibrate` again."
            )
        if len(self.plan_thresholds) != layer.shape.num_plans:
            raise CalibrationError(
                f"The calibration wanted a threshold for each of {layer.shape.num_plans} plans, "
                f"got {len(self.plan_thresholds)}. Run `metacog calibrate` again."
            )

    def apply(self, raw: LayerOutput) -> CalibratedReading:
        """Return the reading that acts."""
        plan = raw.plan_logits.softmax(dim=-1)
        low, high = self.budget_clip
        return CalibratedReading(
            raw=raw,
            plan=plan,
            chosen=self._choose(plan),
            budget_tokens=(raw.budget * self.budget_scale + self.budget_offset).clamp(low, high),
            confidence=self.believe(raw.conf_raw),
        )

    def believe(self, conf_raw: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
        """Return the probability that a raw confidence stands for."""
        scaled = _platt(conf_raw, self.confidence_temperature, self.confidence_bias)
        return moved(scaled, self.confidence_knots)

    def covering(self, budget: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the budgets that cover need as often as `fitted` says.

        Raises:
            CalibrationError: If no such scale was fitted.
        """
        if self.coverage_scale is None:
            raise CalibrationError(
                "Wanted a calibration with a covering scale, got one without. "
                "Run `metacog calibrate`."
            )
        return (budget * self.coverage_scale).clamp(*self.budget_clip)

    def report(self) -> CalibrationReport:
        """Return what every reply says of its calibration."""
        made = self.fitted
        return CalibrationReport(
            sha256=hashlib.sha256(_text_of(self).encode()).hexdigest(),
            confidence=None if made is None else made.confidence,
            questions=None if made is None else made.questions,
            coverage=None if made is None else made.coverage,
            risk=None if made is None else made.risk,
        )

    def apply_to_rereading(self, raw: RereadOutput) -> CalibratedRereading:
        """Return the re-reading that acts."""
        ready = _platt(raw.ready_raw, self.ready_temperature, self.ready_bias)
        gain = _platt(raw.gain_raw, self.gain_temperature, self.gain_bias)
        is_likely = ready >= LIKELY
        return CalibratedRereading(
            raw=raw,
            needed_tokens=raw.needed,
            allowed_tokens=raw.needed * self.needed_scale,
            ready=ready,
            gain=gain,
            confident=is_likely & (gain < self.confident_threshold),
            hopeless=~is_likely & (gain < self.hopeless_threshold),
        )

    def _choose(self, plan: Float[Tensor, "batch plans"]) -> Int[Tensor, " batch"]:
        passes = plan >= plan.new_tensor(self.plan_thresholds)
        best_passing = plan.masked_fill(~passes, -1.0).argmax(dim=-1)
        return torch.where(passes.any(dim=-1), best_passing, plan.argmax(dim=-1))


def layer_digest(layer: nn.Module) -> str:
    """Return the sha256 of a module's tensors: names, types, shapes and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(layer.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.cpu().numpy().tobytes())
    return digest.hexdigest()


def save_calibration(path: Path, blob: CalibrationBlob) -> None:
    """Write a blob, in full or not at all; equal blobs give equal bytes."""
    write_text(path, _text_of(blob))


def load_calibration(path: Path) -> CalibrationBlob:
    """Read a blob.

    Raises:
        CalibrationError: If the file is missing, or anything in it is not as the format says.
    """
    try:
        return CalibrationBlob.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CalibrationError(
            f"Wanted a calibration file at {path}, got {error.strerror}. "
            "Run `metacog calibrate` to make one."
        ) from error
    except ValidationError as error:
        raise CalibrationError(
            f"Wanted a calibration of version {VERSION} in {path}, but {faults_of(error)}. "
            "Run `metacog calibrate` again."
        ) from error


def _text_of(blob: CalibrationBlob) -> str:
    values = blob.model_dump(mode="json")
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _platt(
    logit: Float[Tensor, "batch 1"], temperature: float, bias: float
) -> Float[Tensor, " batch"]:
    return torch.sigmoid(logit / temperature + bias).squeeze(-1)
