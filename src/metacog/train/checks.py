"""Refuses settings that a run would not act on, before anything is written."""

from metacog.config.objective import ImitateObjective
from metacog.config.run import RunConfig
from metacog.data.tasks.families import FAMILIES
from metacog.errors import ConfigError
from metacog.model.places import is_adapter, resolve_model
from metacog.train.processes import Processes

_THROUGH_THE_BASE = frozenset({"gate", "imitate", "practice"})
"""Objectives whose gradients pass through the base that is named."""


def refuse_unused(config: RunConfig) -> None:
    """Refuse what the run's objective has no use for: no setting is accepted and then ignored.

    Raises:
        ConfigError: Naming the key, what it may be here, and what to do.
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
    objective = config.run.objective
    takes_text = isinstance(objective, ImitateObjective) and objective.traces == "given"
    if not config.data.tasks and not takes_text:
        raise ConfigError(
            f"The objective {kind} learns from verifiable questions (rows of text are for imitate "
            "with given traces): wanted families in data.tasks, got none. "
            f"Name some of {', '.join(FAMILIES)}."
        )
    for is_set, key, remedy in _unused(config):
        if is_set:
            raise ConfigError(f"The objective {kind} has no use for {key}. {remedy}")


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


def _unused(config: RunConfig) -> tuple[tuple[bool, str, str], ...]:
    model, kind = config.model, config.run.objective.kind
    return (
        (
            config.run.grad_accum > 1 and kind not in {"imitate", "practice"},
            "run.grad_accum above 1",
            "Raise run.batch instead.",
        ),
        (
            bool(config.data.tasks) and config.data.sample_limit is not None,
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
            config.losses.hopeless_target is not None,
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
