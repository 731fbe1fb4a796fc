"""The root of the schema, and how long and how fast a run trains."""

from pydantic import Field, model_validator

from metacog.config.base import (
    Config,
    Count,
    InnerShare,
    Name,
    PositiveCount,
    PositiveReal,
    Share,
    Weight,
)
from metacog.config.data import DataConfig, LengthConfig, LoggingConfig
from metacog.config.decoding import BudgetConfig, PlanConfig, SamplingConfig
from metacog.config.model import (
    DEFAULT_PLANS,
    AdaptationConfig,
    FeedbackConfig,
    MetacogConfig,
    ModelConfig,
)
from metacog.config.objective import LayerObjective, LossesConfig, Objective


class TrainingConfig(Config):
    """What is trained, for how long, and how fast."""

    objective: Objective = Field(default_factory=LayerObjective)
    """What the run trains: pretrain, layer, gate, reread, imitate, practice or a schedule of them, with
    settings of its own."""

    name: Name | None = None
    """Name of the run's directory under runs/, or null for the objective and the time."""

    steps: PositiveCount = 1000
    """Optimizer steps."""

    batch: PositiveCount = 8
    """Examples of one forward pass, on each process."""

    grad_accum: PositiveCount = 1
    """Forward passes added up for one optimizer step."""

    save_interval: PositiveCount = 1000
    """Steps between checkpoints."""

    eval_interval: PositiveCount = 100
    """Steps between small evaluations; the last step of a run that has any is one too."""

    keep_last: PositiveCount | None = None
    """Latest checkpoints to keep, or null to keep all."""

    seed: Count = 0
    """Seed of every random choice."""

    learning_rate: PositiveReal = 1e-3
    """Learning rate of the layer, the gate and adapters."""

    weight_decay: Weight = 0.01
    """Share of a weight that is taken away each step, times the learning rate."""

    warmup: Count = 50
    """Steps over which the learning rate rises from 0; it stays below its peak where `decay` comes first."""

    decay: Share = 0.4
    """Last share of the steps over which the learning rate falls to 0."""

    clip: PositiveReal = 1.0
    """Largest norm of the gradient."""

    strikes: PositiveCount = 3
    """Steps in a row that may be refused before the run stops: those whose loss or gradient is no finite
    number, or whose loss is beyond `spike`. Each is left out, the weights as they were."""

    spike: PositiveReal | None = 100.0
    """Multiple of the recent steps' usual loss that a step may have, or null for any."""

    ema: InnerShare | None = None
    """Decay per step of a running mean of what learns, which is evaluated and saved in place of the
    latest weights; null for the latest weights."""


class RunConfig(Config):
    """All that one run is made of."""

    data: DataConfig = Field(default_factory=DataConfig)
    """Where examples come from."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    """The base."""

    metacog: MetacogConfig = Field(default_factory=MetacogConfig)
    """The layer that reads the base."""

    feedback: FeedbackConfig = Field(default_factory=FeedbackConfig)
    """The gate."""

    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """Thinking tokens of a reply."""

    plan: PlanConfig = Field(default_factory=PlanConfig)
    """What a plan does."""

    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    """How tokens are drawn."""

    adaptation: AdaptationConfig = Field(default_factory=AdaptationConfig)
    """What of the base may learn."""

    losses: LossesConfig = Field(default_factory=LossesConfig)
    """Weights of the losses."""

    run: TrainingConfig = Field(default_factory=TrainingConfig)
    """What is trained, for how long."""

    length: LengthConfig = Field(default_factory=LengthConfig)
    """Longest example."""

    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    """Where events go."""

    @model_validator(mode="after")
    def _plans_are_known(self) -> "RunConfig":
        known = {*self.metacog.plans, *DEFAULT_PLANS}
        by_plan = {
            "plan.scale": self.plan.scale,
            "sampling.modulation.plan_shift": self.sampling.modulation.plan_shift,
        }
        for key, values in by_plan.items():
            for plan in values:
                if plan not in known:
                    raise ValueError(
                        f"{key} names {plan!r}, which is not in metacog.plans "
                        f"({', '.join(self.metacog.plans)}); rename it or add the plan"
                    )
        return self


def cautions(config: RunConfig) -> tuple[str, ...]:
    """Return a sentence for each setting that is allowed but known to go wrong."""
    found = []
    if config.metacog.var_reg > 1e-3:
        found.append(
            f"metacog.var_reg is {config.metacog.var_reg:g}: above 1e-3 it makes the experts "
            "copies of each other. Use 1e-4 to 1e-3."
        )
    adapts = config.adaptation.enabled
    if adapts and config.adaptation.lr_multiplier > 0.05:
        found.append(
            f"adaptation.lr_multiplier is {config.adaptation.lr_multiplier:g}: above 0.05 the "
            "base may become unstable. Use 0.05 or less."
        )
    unfrozen = config.adaptation.unfreeze_all or config.adaptation.mode == "ln_only"
    trains_base = config.run.objective.kind in {"imitate", "practice"}
    if trains_base and adapts and unfrozen and config.model.precision == "bf16":
        found.append(
            "model.precision is bf16 and the base's own weights learn in it: a step below 0.4 % of a "
            "weight is lost. Use adaptation.mode lora, whose adapters are fp32, or precision fp32."
        )
    return tuple(found)
