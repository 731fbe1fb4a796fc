"""A run of several objectives, one after the other: each a run of its own inside the first.

    runs/<name>/  config.yaml  events.jsonl  1-imitate/  2-practice/  3-reread/  final/

A stage starts from the model that the last one left, so its directory is an ordinary run: it can be
looked at, evaluated, and gone on from by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from metacog.config import digest
from metacog.config.objective import ScheduleObjective
from metacog.config.run import RunConfig
from metacog.errors import ConfigError, MetacogError, RunStopped
from metacog.model.bundle import load_model
from metacog.telemetry import provenance
from metacog.telemetry.events import EventKind
from metacog.telemetry.lock import locked
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir, default_name
from metacog.telemetry.sinks import open_sinks
from metacog.train.checks import refuse_unread, refuse_unused
from metacog.train.processes import launched
from metacog.train.resume import AUTO, Resumption, has_begun, is_told_done, require_same, run_of
from metacog.train.run import Finish, checked, train_stage
from metacog.train.stopping import interruptible

_SINKS = ("jsonl", "console")
"""Of the whole run; trackers follow each stage."""

Narrate = Callable[[str], None]
"""Told what happens, in lines for people."""


@dataclass(frozen=True)
class StageRun:
    """Where one stage is trained, and as what."""

    number: int
    """From 1."""
    config: RunConfig
    path: Path

    @property
    def name(self) -> str:
        """Name of its directory."""
        return self.path.name


def stages_of(config: RunConfig, path: Path) -> list[StageRun]:
    """Return the stages of a schedule in the directory of its run.

    Raises:
        ConfigError: If a stage cannot be run from this configuration.
    """
    objective = config.run.objective
    assert isinstance(objective, ScheduleObjective), "only a schedule has stages."
    found: list[StageRun] = []
    model = config.model
    for number, stage in enumerate(objective.stages, start=1):
        changed = {
            name: value
            for name, value in stage.model_dump(exclude={"objective", "num_prompts"}).items()
            if value is not None
        }
        run = config.run.model_copy(update={**changed, "objective": stage.objective, "name": None})
        update: dict[str, object] = {"run": run, "model": model}
        if stage.num_prompts is not None:
            update["data"] = config.data.model_copy(update={"num_prompts": stage.num_prompts})
        where = path / f"{number}-{stage.objective.kind}"
        found.append(StageRun(number, config.model_copy(update=update), where))
        model = model.model_copy(update={"path": str(where / "final"), "base_path": None})
    for stage_run in found:
        refuse_unused(stage_run.config)
        _refuse_named_layer(stage_run)
    return found


def _refuse_named_layer(stage: StageRun) -> None:
    objective = stage.config.run.objective
    named = objective.model_dump().get("layer_path")
    if stage.number > 1 and named is not None:
        raise ConfigError(
            f"Stage {stage.number} goes on from the model of the stage before it, but its layer_path "
            f"names {named}. Set that to null, or name it in the first stage."
        )


def train_schedule(
    config: RunConfig,
    *,
    run_dir: Path | None = None,
    resume: str | None = None,
    narrate: Narrate = lambda _: None,
    finish: Finish | None = None,
) -> RunDir:
    """Train all stages of a schedule and return the directory of the whole run.

    Args:
        config: Of the run; its objective is a schedule.
        run_dir: Where it goes; by default `runs/` and its name.
        resume: `auto` to go on in the stage that was left; None for a new run.
        narrate: Told what was restored.
        finish: Does what follows the last stage; the run is done once it has, and does it once.

    Raises:
        ConfigError: If a stage cannot be run, or a run would go on under another configuration.
        RunError: If the directory exists or is in use.
        RunStopped: If the run was asked to stop.
    """
    config = config.model_copy(deep=True)
    if (size := launched()) > 1:
        raise ConfigError(
            f"A schedule wanted one process, got {size}. Launch the recipe of each stage by itself, "
            "the next one from the directory of the one before."
        )
    if resume not in {None, AUTO}:
        raise ConfigError(
            f"A schedule goes on in the stage that was left (--resume auto), got {resume}. "
            "Name the stage's own recipe to go on from one checkpoint of it."
        )
    name = config.run.name or default_name("schedule", datetime.now().astimezone())
    path = run_dir or Path("runs") / name
    path = path if resume is None else run_of(AUTO, run_dir, config.run.name)
    if not has_begun(resume, run_dir, config.run.name):
        refuse_unread(config)
    stages = stages_of(config, path.absolute())
    checked(stages[0].config)
    origin = provenance.collect(seed=config.run.seed, config_digest=digest(config))
    is_new = not path.exists() or resume is None
    run = RunDir.create(path, config=config, provenance=origin) if is_new else RunDir.open(path)
    if not is_new:
        require_same(run, config, Resumption(None, None))
        if run.final.is_dir() and is_told_done(run):
            narrate(f"{run.path} has come to its end; there is nothing left to do.")
            return run
    _recorded(config, stages, run, narrate, finish)
    return run


def _recorded(
    config: RunConfig,
    stages: list[StageRun],
    run: RunDir,
    narrate: Narrate,
    finish: Finish | None,
) -> None:
    """Train all stages and do what follows them, with the course of the whole recorded."""
    shown = [name for name in config.logging.sinks if name in _SINKS]
    recorder = Recorder(run.name, open_sinks(shown, run, num_steps=len(stages)))
    with locked(run.lock):
        try:
            _train_all(stages, run, recorder, narrate)
            if finish is not None:
                with interruptible("after the last step"):
                    finish(run)
            told = {"message": "done", "path": str(run.path)}
            recorder.record(EventKind.STATUS, len(stages), told)
        finally:
            recorder.close()


def _train_all(stages: list[StageRun], run: RunDir, recorder: Recorder, narrate: Narrate) -> None:
    for stage in stages:
        where = RunDir(stage.path)
        if where.final.is_dir():
            continue
        told = {"message": f"stage {stage.number} of {len(stages)}", "path": str(where.path)}
        recorder.record(EventKind.STATUS, stage.number - 1, told)
        resume = AUTO if where.path.exists() else None
        try:
            train_stage(stage.config, run_dir=stage.path, resume=resume, narrate=narrate)
        except RunStopped:
            told = {"message": "stopped", "path": str(where.stopped)}
            recorder.record(EventKind.STATUS, stage.number - 1, told)
            raise
        except MetacogError as error:
            recorder.alert(stage.number - 1, f"stage {stage.number}: {error}")
            raise
    if not run.final.exists():
        load_model(str(RunDir(stages[-1].path).final)).save(run.final)
