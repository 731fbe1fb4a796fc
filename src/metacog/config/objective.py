"""What a run trains, and the weights of its losses. One class per objective, told apart by `kind`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from metacog.config.base import (
    Config,
    Count,
    Flag,
    InnerShare,
    Name,
    PositiveCount,
    PositiveReal,
    Share,
    Weight,
)

GroupCount = Annotated[PositiveCount, Field(ge=2)]
"""Rollouts of one prompt: enough to compare."""


class PretrainStage(Config):
    """A part of pretraining with a mixture of families of its own."""

    from_step: Count = 0
    """First step of the stage."""

    family_weights: dict[Name, Weight] = Field(default_factory=dict)
    """How often each question family is drawn, relative to the others; empty draws all alike."""

    direct_families: tuple[Name, ...] | None = None
    """Families whose short traces may have the plan `direct`, or null for all."""


class PretrainObjective(Config):
    """Train a base from scratch on generated questions and solvers' traces."""

    kind: Literal["pretrain"] = "pretrain"
    """Name of the objective."""

    start: Name | None = None
    """Directory of a base to go on from, or null for random weights of the size below."""

    hidden_size: PositiveCount = 128
    """Width of the residual stream, in numbers per token."""

    num_blocks: PositiveCount = 6
    """Decoder blocks."""

    num_heads: PositiveCount = 4
    """Attention heads of a block; they divide `hidden_size`."""

    mlp_size: PositiveCount = 384
    """Inner width of the MLP, in numbers per token."""

    matrix_learning_rate: PositiveReal = 3e-3
    """Learning rate of weight matrices (Muon); all else learns at `run.learning_rate` (AdamW)."""

    stages: tuple[PretrainStage, ...] = Field(default=(PretrainStage(),), min_length=1)
    """What is drawn, and from which step on; the first stage begins at step 0."""

    level_weights: tuple[Weight, ...] = (1.0,) * 8
    """How often each level of difficulty is drawn, easiest first."""

    cut_share: Share = 0.3
    """Share of traces that are cut short, closed and answered."""

    cut_at_line_share: Share = 0.75
    """Share of the cuts that lie at a line end; the others lie at any token."""

    cut_answer_weight: Weight = 3.0
    """Weight of an answer token after a cut, where nothing else is trained."""

    batch_tokens: PositiveCount = 7680
    """Tokens of one step, padding included; takes the place of `run.batch`."""

    longest: PositiveCount = 384
    """Longest example, in tokens; longer ones are left out."""

    length_step: PositiveCount = 32
    """Lengths are padded to multiples of this many tokens."""

    chunk: PositiveCount = 24000
    """Examples that are drawn, sorted by length and shuffled together."""

    vocabulary_questions: PositiveCount = 3000
    """Questions of each family that the tokenizer is built from."""

    compiled: Flag = True
    """Run the model compiled: slower to start, faster from then on."""

    @model_validator(mode="after")
    def _stages_follow_each_other(self) -> "PretrainObjective":
        starts = [stage.from_step for stage in self.stages]
        if starts[0] != 0 or sorted(set(starts)) != starts:
            raise ValueError(
                f"run.objective.stages wanted from_step to begin at 0 and rise, got {starts}; "
                "put the stages in order"
            )
        return self

    @model_validator(mode="after")
    def _batch_holds_the_longest(self) -> "PretrainObjective":
        padded = -(-self.longest // self.length_step) * self.length_step
        if self.batch_tokens < padded:
            raise ValueError(
                f"run.objective.batch_tokens wanted at least the longest example, padded "
                f"({padded}), got {self.batch_tokens}; raise it or lower longest"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "PretrainObjective":
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"run.objective.hidden_size wanted a multiple of num_heads ({self.num_heads}), "
                f"got {self.hidden_size}; change one of them"
            )
        return self


class LayerObjective(Config):
    """Train the layer on a frozen base's own rollouts."""

    kind: Literal["layer"] = "layer"
    """Name of the objective."""

    rollouts: PositiveCount = 1
    """Uncapped rollouts sampled for each prompt."""

    plan_prompts: Count = 0
    """Prompts on which every plan is run to see which is right for the fewest tokens."""

    patience: PositiveCount = 5
    """Evaluations without a better validation loss before training stops."""


class GateObjective(Config):
    """Train the gate on the base's shortest right rollouts, with everything else frozen."""

    kind: Literal["gate"] = "gate"
    """Name of the objective."""

    layer_path: Name | None = None
    """Directory of the layer that the gate listens to, or null for the one beside the base."""

    rollouts: PositiveCount = 4
    """Rollouts sampled for each prompt, of which the shortest right one is learned from."""

    patience: PositiveCount = 5
    """Evaluations without a better validation loss before training stops."""


class RereadObjective(Config):
    """Teach the re-readings anew on rollouts with the gate in place, with everything else frozen."""

    kind: Literal["reread"] = "reread"
    """Name of the objective."""

    layer_path: Name | None = None
    """Directory of layer and gate to go on from, or null for those beside the base."""

    rollouts: PositiveCount = 1
    """Uncapped rollouts sampled for each prompt."""

    budgets: Flag = False
    """Teach the budget at the prompt anew too: after the base has learned, which changes what it needs.
    The gate does not hear the budget, so nothing else changes."""

    patience: PositiveCount = 5
    """Evaluations without a better validation loss before training stops."""


class ImitateObjective(Config):
    """Learn from traces: the layer, the gate, and what of the base may learn."""

    kind: Literal["imitate"] = "imitate"
    """Name of the objective."""

    traces: Literal["given", "own"] = "given"
    """Whose traces: those of solvers or of a data set, for a fresh layer and gate; or the model's own
    shortest right replies, for the layer and gate that it has."""

    layer_path: Name | None = None
    """Directory of layer and gate to go on from with own traces, or null for those beside the base."""

    rollouts: PositiveCount = 4
    """With own traces: rollouts sampled for each prompt, of which the shortest is learned from."""

    sure: Share | None = None
    """With own traces: probability of the right answer from which a trace is enough, and is cut; null
    keeps traces whole. What is cut teaches to close on lucky guesses: it costs accuracy."""

    own_budget: Flag = False
    """With own traces: roll out under the model's own budgets and re-readings. What closed because going
    on wins too little is learned as if it had closed by itself: the layer's judgement passes to the base."""

    cut_after: Count = 200
    """Optimizer steps before traces are cut as the controller would cut them."""

    @model_validator(mode="after")
    def _cut_once(self) -> "ImitateObjective":
        if self.own_budget and self.sure is not None:
            raise ValueError(
                "run.objective wanted sure or own_budget, got both; a reply that its budget has closed "
                "cannot be valued where it would have gone on, so set sure to null"
            )
        return self


class PracticeObjective(Config):
    """Learn from own rollouts, rewarded when right and short; the layer goes on learning beside."""

    kind: Literal["practice"] = "practice"
    """Name of the objective."""

    layer_path: Name | None = None
    """Directory of layer and gate to go on from, or null for those beside the base."""

    group_size: GroupCount = 8
    """Rollouts for each prompt: some under the predicted budget, some without a cap, the others
    under caps around the prediction."""

    predicted: PositiveCount = 1
    """Rollouts of a group under the predicted budget, re-readings included."""

    uncapped: PositiveCount = 1
    """Rollouts of a group without a cap."""

    cap_spread: PositiveReal = 4.0
    """The group's other caps lie between 1 / this and this times the predicted budget."""

    updates: PositiveCount = 1
    """Optimizer steps on the same rollouts."""

    replay: PositiveCount = 8
    """Latest sets of rollouts whose traces the layer goes on learning from."""

    lambda_tokens: Weight = 0.1
    """Reward taken away for spending `budget.max_tokens` on thinking and answer together."""

    format_reward: Weight = 0.1
    """Reward for a reply with a closed THINK and an answer."""

    clip_ratio: PositiveReal = 0.2
    """Largest relative change of a token's probability that one update rewards."""

    @model_validator(mode="after")
    def _group_holds_all(self) -> "PracticeObjective":
        if self.predicted + self.uncapped > self.group_size:
            raise ValueError(
                f"run.objective.group_size wanted room for {self.predicted} predicted and "
                f"{self.uncapped} uncapped rollouts, got {self.group_size}; raise it"
            )
        return self


StageObjective = Annotated[
    LayerObjective | GateObjective | RereadObjective | ImitateObjective | PracticeObjective,
    Field(discriminator="kind"),
]
"""What one stage of a schedule trains, chosen by its `kind`."""


class Stage(Config):
    """A part of a schedule: an objective, and what it does otherwise than the schedule's run."""

    objective: StageObjective
    """What the stage trains."""

    steps: PositiveCount
    """Optimizer steps of the stage."""

    num_prompts: PositiveCount | None = None
    """Questions of the stage, or null for `data.num_prompts`."""

    batch: PositiveCount | None = None
    """Examples of one forward pass, or null for `run.batch`."""

    grad_accum: PositiveCount | None = None
    """Forward passes of one optimizer step, or null for `run.grad_accum`."""

    learning_rate: PositiveReal | None = None
    """Learning rate, or null for `run.learning_rate`."""

    warmup: Count | None = None
    """Steps over which the learning rate rises, or null for `run.warmup`."""

    decay: Share | None = None
    """Last share of the steps over which it falls, or null for `run.decay`."""

    eval_interval: PositiveCount | None = None
    """Steps between small evaluations, or null for `run.eval_interval`."""

    save_interval: PositiveCount | None = None
    """Steps between checkpoints, or null for `run.save_interval`."""

    ema: InnerShare | None = None
    """Decay of a running mean of what learns, or null for `run.ema`."""


class ScheduleObjective(Config):
    """Train several objectives one after the other, each from the model that the last one left."""

    kind: Literal["schedule"] = "schedule"
    """Name of the objective."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    """In their order; the run's own steps, objective aside, are those that a stage leaves open."""


Objective = Annotated[
    PretrainObjective
    | LayerObjective
    | GateObjective
    | RereadObjective
    | ImitateObjective
    | PracticeObjective
    | ScheduleObjective,
    Field(discriminator="kind"),
]
"""One of the objectives, chosen by its `kind`."""


class LossesConfig(Config):
    """Weights of the losses; zero switches one off."""

    answer: Weight = 1.0
    """Weight of the cross-entropy on THINK and ANSWER, or of the policy loss."""

    closing: Weight = 0.0
    """Weight of practice's loss on when to stop thinking, at every line end of uncapped replies; above
    1 thinking has collapsed within twenty steps."""

    lambda_plan: Weight = 0.5
    """Weight of the plan loss."""

    lambda_budget_reg: Weight = 1.0
    """Weight of the budget loss."""

    lambda_confidence: Weight = 1.0
    """Weight of the confidence loss."""

    lambda_reread: Weight = 1.0
    """Weight of the losses of re-readings: tokens still needed, and right if closed now."""

    style_entropy: Weight = 0.01
    """Weight of the bonus for entropy in the plan distributions."""

    budget_target: Literal["need", "used"] = "need"
    """What the budget head predicts: tokens needed, or the plain count of tokens used."""

    hopeless_target: Count | None = None
    """Budget learned for a prompt that no rollout solves, in tokens; null for `budget.min_tokens`."""

    hopeless_after: PositiveCount = 8
    """Rollouts of one prompt that must fail before it counts as hopeless."""
