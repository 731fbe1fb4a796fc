"""How a reply is made: its thinking budget, what a plan does, how tokens are drawn."""

from typing import Literal

from pydantic import Field, model_validator

from metacog.config.base import (
    Config,
    Count,
    Flag,
    InnerShare,
    Lean,
    Name,
    PositiveCount,
    PositiveReal,
    PositiveShare,
    Share,
    Weight,
)


class LandingConfig(Config):
    """How THINK is led to its end before the budget cuts it."""

    enabled: Flag = False
    """Ease THINK towards its closer inside the last tokens of the budget."""

    window: PositiveCount = 16
    """Last tokens of the budget in which the closer becomes likelier at line and sentence ends."""

    bias: Weight = 4.0
    """Most that is added to the closer's logit, reached at the last token of the window."""

    text: Name | None = None
    """Wrap-up text that is forced before the closer, counted as thinking, or null for none."""


class BudgetConfig(Config):
    """How many thinking tokens a reply may spend."""

    use_predicted_budget: Flag = True
    """Enforce the budget that the layer predicts; false enforces `max_tokens`."""

    min_tokens: PositiveCount = 8
    """Smallest budget that the layer can predict, in tokens."""

    max_tokens: PositiveCount = 512
    """Largest budget that the layer can predict, in tokens."""

    min_think: Count = 1
    """Smallest budget that is enforced, in tokens; only an explicit budget of 0 goes below."""

    answer_reserve: PositiveCount = 64
    """Tokens of a reply that are kept for the answer, behind the closer."""

    quantile: InnerShare = 0.7
    """Quantile of the tokens needed that a predicted budget covers."""

    revise: Flag = True
    """Let re-readings lower the budget or close THINK; a budget never goes up."""

    reread: Literal["lines", "every", "none"] = "lines"
    """Where THINK is read again: at line and sentence ends, every few tokens, or nowhere."""

    reread_every: PositiveCount = 32
    """Thinking tokens between two re-readings when `reread` is every."""

    landing: LandingConfig = Field(default_factory=LandingConfig)
    """How THINK is led to its end."""

    @model_validator(mode="after")
    def _range_is_open(self) -> "BudgetConfig":
        if self.min_tokens >= self.max_tokens:
            raise ValueError(
                f"budget.min_tokens wanted less than budget.max_tokens ({self.max_tokens}), "
                f"got {self.min_tokens}; lower one or raise the other"
            )
        if self.min_think > self.max_tokens:
            raise ValueError(
                f"budget.min_think wanted at most budget.max_tokens ({self.max_tokens}), "
                f"got {self.min_think}; lower one or raise the other"
            )
        return self


class PlanConfig(Config):
    """What a plan does to a reply."""

    inject: Flag = False
    """Open THINK with the plan's mark, for bases that were trained with marks."""

    scale: dict[Name, Weight] = Field(default_factory=dict)
    """Factor of the predicted budget by plan name; a plan not named keeps 1, and the result is at
    least `budget.min_think`. Only for a plan head that has learned: one without labels names plans at
    random."""


class ModulationConfig(Config):
    """How far plan and confidence may move the sampler."""

    enabled: Flag = False
    """Let plan and confidence move temperature, top-p and the repetition penalty."""

    segments: tuple[Literal["think", "answer"], ...] = ("think",)
    """Where they move it."""

    temperature_span: Share = 0.3
    """Largest change of the temperature, up or down, as a share of it."""

    top_p_span: Share = 0.1
    """Largest change of top-p, up or down, as a share of probability."""

    penalty_span: Share = 0.0
    """Largest change of the repetition penalty, up or down, as a share of it; never to below 1."""

    plan_shift: dict[Name, Lean] = Field(default_factory=dict)
    """What a plan adds to the lean of the sampler, from -1 (narrow) to 1 (wide), by plan name."""


class SamplingConfig(Config):
    """How the next token is drawn."""

    temperature: Weight = 0.6
    """Divisor of the logits; 0 always takes the likeliest token."""

    top_p: PositiveShare = 0.95
    """Share of probability that is kept, likeliest tokens first; 1 keeps all."""

    repetition_penalty: PositiveReal = 1.0
    """Factor by which tokens already seen become less likely; 1 leaves them as they are."""

    modulation: ModulationConfig = Field(default_factory=ModulationConfig)
    """How far plan and confidence may move temperature and top-p."""


class DecodingConfig(Config):
    """How a model's replies are made: what is saved beside its layer."""

    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """Thinking tokens of a reply."""

    plan: PlanConfig = Field(default_factory=PlanConfig)
    """What a plan does."""

    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    """How tokens are drawn."""
