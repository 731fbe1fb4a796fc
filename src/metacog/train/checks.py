"""Refuses settings that a run would not act on, before anything is written."""

from metacog.config.base import Config
from metacog.config.compare import differences
from metacog.config.data import DataConfig
from metacog.config.model import FeedbackConfig, MetacogConfig
from metacog.config.objective import (
    ImitateObjective,
    LayerObjective,
    Objective,
    PretrainObjective,
    ScheduleObjective,
)
from metacog.config.run import RunConfig
from metacog.data.tasks.families import FAMILIES
from metacog.errors import ConfigError
from metacog.model.bundle import MetacogModel
from metacog.model.places import is_adapter, resolve_model
from metacog.train.processes import Processes, launched

_USUAL: dict[str, Config] = {"metacog": MetacogConfig(), "feedback": FeedbackConfig()}
_LAYER_KEYS = ("proj_dim", "agg", "linked_all_layers", "budget_scale", "plans")
_GATE_KEYS = ("layer", "site", "switch", "strength")
_THROUGH_THE_BASE = frozenset({"gate", "imitate", "practice"})
"""Objectives whose gradients pass through the base that is named."""
_OF_ROWS = (
    "data.streaming",
    "data.split",
    "data.shuffle_buffer",
    "data.prefetch",
    "data.max_malformed",
    "data.validation_rows",
    "length.",
)
_NEVER_READ: dict[str, tuple[str, ...]] = {
    "pretrain": (
        *("model.path", "data.num_prompts", "run.batch", "metacog.", "feedback.", "budget."),
        *("plan.", "sampling.", "adaptation.", "losses."),
    ),
    "layer": (
        "feedback.",
        "adaptation.",
        "losses.answer",
        "losses.closing",
        "losses.hopeless_after",
    ),
    "gate": ("adaptation.", "losses.", "metacog.var_reg", "metacog.per_layer_weight"),
    "reread": ("adaptation.", "losses.answer", "losses.closing", "losses.hopeless_after"),
    "imitate": ("losses.closing", "losses.hopeless_after"),
    "practice": (),
}
"""Settings that an objective never looks at: a key, or how keys begin."""
_OF_OWN_TRACES = ("rollouts", "sure", "own_budget")
_OFF = ("adaptation.enabled", "feedback.enabled", "losses.answer")
"""Switches and weights that may be off where what they are about is never looked at."""


def reads_rows(config: RunConfig) -> bool:
    """Say whether a run reads rows of text; all others learn from generated questions."""
    objective = config.run.objective
    takes_rows = isinstance(objective, ImitateObjective) and objective.traces == "given"
    return takes_rows and not config.data.tasks


def families_of(config: RunConfig) -> tuple[str, ...]:
    """Return the question families of a run: those that are named, or all."""
    return config.data.tasks or tuple(FAMILIES)


def refuse_unused(config: RunConfig) -> None:
    """Refuse what the run's objective has no use for: no setting is accepted and then ignored.

    Raises:
        ConfigError: Naming the key, what it may be here, and what to do; or saying that there are fewer
            questions than a step asks.
        ModelError: If there is `model.base_path` and `model.path` names no model.
    """
    kind = config.run.objective.kind
    if kind == "schedule":
        raise ConfigError(
            "A schedule holds runs of their own: train it with `metacog train`, or in the library with "
            "metacog.train.schedule.train_schedule."
        )
    unknown = [name for name in config.data.tasks if name not in FAMILIES]
    if unknown:
        raise ConfigError(
            f"Wanted data.tasks among {', '.join(FAMILIES)}, got {', '.join(unknown)}."
        )
    for is_set, key, remedy in (*_unused(config), *_unused_with_given(config)):
        if is_set:
            raise ConfigError(f"The objective {kind} has no use for {key}. {remedy}")
    refuse_few_questions(config, questions=config.data.num_prompts, processes=launched())


def refuse_unread(config: RunConfig) -> None:
    """Refuse settings that are none of the defaults and that nothing in the run ever reads.

    In a schedule all stages share what is no stage's own: one that reads a setting is enough.

    Raises:
        ConfigError: Naming each key, what it may be here, and what to do.
    """
    objective = config.run.objective
    parts: list[Objective] = [objective]
    if isinstance(objective, ScheduleObjective):
        parts = [stage.objective for stage in objective.stages]
    runs = [config.run.model_copy(update={"objective": part}) for part in parts]
    unread = [_never_read(config.model_copy(update={"run": run})) for run in runs]
    found = {
        key: usual
        for key, (usual, value) in differences(RunConfig(), config).items()
        if all(key.startswith(prefixes) for prefixes in unread) and not (key in _OFF and not value)
    }
    if found:
        told = ", ".join(f"{key} ({usual!r})" for key, usual in found.items())
        raise ConfigError(
            f"The objective {objective.kind} has no use for what is set here other than by default: "
            f"{told}. It would be ignored: leave it out."
        )


def _never_read(config: RunConfig) -> tuple[str, ...]:
    return (*_NEVER_READ[config.run.objective.kind], *(() if reads_rows(config) else _OF_ROWS))


def refuse_few_questions(config: RunConfig, *, questions: int, processes: int) -> None:
    """Refuse a step of practice that asks more questions than there are.

    Raises:
        ConfigError: Saying how many a step asks, and what to do.
    """
    wanted = config.run.batch * config.run.grad_accum * processes
    if config.run.objective.kind == "practice" and questions < wanted:
        raise ConfigError(
            f"Wanted questions for the {wanted} groups of a step (run.batch times run.grad_accum on "
            f"each process), got {questions}. Raise data.num_prompts."
        )


def refuse_other_shapes(config: RunConfig, model: MetacogModel) -> None:
    """Refuse settings of a new layer or gate where a run goes on from those that a model has.

    Raises:
        ConfigError: Naming the key, what the model has, and what to do.
    """
    assert model.reader is not None
    objective = config.run.objective
    assert not isinstance(objective, PretrainObjective | LayerObjective | ScheduleObjective)
    has = {"metacog": {**vars(model.reader.layer.shape), "plans": model.reader.plans}}
    keys = [("metacog", key) for key in _LAYER_KEYS]
    if model.gate is not None and objective.kind != "gate":
        has["feedback"] = vars(model.gate.shape)
        keys += [("feedback", key) for key in _GATE_KEYS]
    for section, key in keys:
        value, own = vars(vars(config)[section])[key], has[section]
        if value not in (vars(_USUAL[section])[key], own[key]):
            raise ConfigError(
                f"The objective {objective.kind} goes on from what "
                f"{objective.layer_path or config.model.path} has, whose {section}.{key} is {own[key]}: "
                f"wanted that or nothing, got {value}. Leave it out."
            )


def require_trainable(config: RunConfig, processes: Processes) -> None:
    """Refuse an objective that more than one process cannot share.

    Raises:
        ConfigError: Naming it, and what to do.
    """
    kind = config.run.objective.kind
    if processes.size > 1 and kind == "pretrain":
        raise ConfigError(
            f"The objective pretrain wanted one process, got {processes.told}: Muon needs whole "
            "matrices, and its batches are counted in tokens. Start it without accelerate launch."
        )


def _unused_with_given(config: RunConfig) -> list[tuple[bool, str, str]]:
    """Return what a run on given traces may not say: how own ones are made."""
    objective = config.run.objective
    if not isinstance(objective, ImitateObjective) or objective.traces == "own":
        return []
    usual, said = vars(ImitateObjective()), vars(objective)
    remedy = "Own traces are made so: set run.objective.traces to own, or leave it out."
    return [
        (said[key] != usual[key], f"run.objective.{key} with given traces", remedy)
        for key in _OF_OWN_TRACES
    ]


def _unused(config: RunConfig) -> tuple[tuple[bool, str, str], ...]:
    model, data, kind = config.model, config.data, config.run.objective.kind
    names_rows = data.path or data.mixture or data.dataset != DataConfig().dataset
    return (
        (
            bool(names_rows) and not data.tasks and not reads_rows(config),
            "data.path, data.mixture or data.dataset",
            "It learns from verifiable questions: leave them as they are, and name families in "
            "data.tasks or take all. Rows of text are for imitate with given traces.",
        ),
        (
            config.run.grad_accum > 1 and kind not in {"imitate", "practice"},
            "run.grad_accum above 1",
            "Raise run.batch instead.",
        ),
        (
            model.hub_push,
            "model.hub_push",
            "Nothing is uploaded by a run: set it to false, and upload what it saves yourself.",
        ),
        (
            data.sample_limit is not None and not reads_rows(config),
            "data.sample_limit",
            "Set data.num_prompts.",
        ),
        (
            model.grad_checkpoint and kind not in _THROUGH_THE_BASE,
            "model.grad_checkpoint",
            "No gradient passes through its base, or it is small: set it to false.",
        ),
        (
            model.flash_attn and kind not in _THROUGH_THE_BASE,
            "model.flash_attn",
            "No gradient passes through its base, or it is small: set it to false.",
        ),
        (
            model.base_path is not None
            and (kind == "pretrain" or not is_adapter(resolve_model(model.path).base)),
            "model.base_path",
            "It goes with an adapter in model.path; name a whole base there, and set this to null.",
        ),
        (
            config.losses.hopeless_target is not None and kind != "practice",
            "losses.hopeless_target",
            "It takes groups of rollouts; set it to null.",
        ),
        (
            isinstance(config.run.objective, ImitateObjective)
            and config.run.objective.traces == "given"
            and config.run.objective.layer_path is not None,
            "run.objective.layer_path with given traces",
            "They are for a fresh layer; set run.objective.traces to own, or this to null.",
        ),
        (
            kind == "gate" and not config.feedback.enabled,
            "feedback.enabled=false",
            "A gate is what it trains; choose another objective.",
        ),
    )
