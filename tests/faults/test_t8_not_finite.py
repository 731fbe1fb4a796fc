"""T8: a step that is no number, or far beyond the usual, is never taken, and its batch is told.

So many of them in a row stop the run; what is saved is always finite.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metacog.config import RunConfig, parse
from metacog.config.objective import ImitateObjective, PracticeObjective
from metacog.errors import RunError
from metacog.losses.combine import LossName
from metacog.model.bundle import MetacogModel
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.manifest import verified
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import MultiSink
from metacog.train.checkpoint import Keeper
from metacog.train.imitate import Imitation
from metacog.train.loop import fit
from metacog.train.practice import Practice, PracticeBatch
from metacog.train.prepare import prepare_imitation, prepare_practice
from metacog.train.run import train
from tests.conftest import MakeModel
from tests.faults.processes import contents, imitation

AT = 2
"""The step that goes wrong, from 0."""

Poison = Callable[[Any, Any], Any]
"""Takes an objective and the batch of a step; returns the batch."""


def config_of(base: Path, **objective: object) -> RunConfig:
    found = imitation(base)
    run = {
        **found["run"],
        "save_interval": 1,
        "steps": 6,
        "eval_interval": 100,
        "ema": None,
        "strikes": 1,
    }
    return parse({**found, "run": {**run, "objective": objective}}, source="test")


def poisoned(objective: Any, poison: Poison, *, at: int = AT) -> Any:
    """Let a batch come poisoned at one step."""
    sound = objective.batches

    def batches(start: int) -> Iterator[Any]:
        for number, batch in enumerate(sound(start), start):
            yield poison(objective, batch) if number == at else batch

    objective.batches = batches
    return objective


def weights(objective: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = objective.optimizers.weights()
    return found


def in_the_loss(objective: Imitation, batch: Any) -> Any:
    """Let the loss be no number, with weights and heads sound: a weight of the sum is infinite."""
    sound, objective._weights = objective._weights, dict.fromkeys(objective._weights, math.inf)
    restored(objective, sound)
    return batch


def with_a_spike(objective: Imitation, batch: Any) -> Any:
    """Let the loss of one step be a hundred times the usual and more."""
    sound = objective._weights
    objective._weights = {name: 1000 * weight for name, weight in sound.items()}
    restored(objective, sound)
    return batch


def restored(objective: Imitation, weights: dict[LossName, float]) -> None:
    """Let the weights of the losses be as they were once the step is over."""
    forget = objective.optimizers.forget

    def and_restore() -> None:
        forget()
        objective._weights, objective.optimizers.forget = weights, forget  # type: ignore[method-assign]

    objective.optimizers.forget = and_restore  # type: ignore[method-assign]


def in_a_weight(objective: Imitation, batch: Any) -> Any:
    with torch.no_grad():
        next(objective.layer.trunk.parameters()).view(-1)[0] = torch.nan
    return batch


def in_a_head(objective: Imitation, batch: Any) -> Any:
    with torch.no_grad():
        next(objective.layer.heads.parameters()).view(-1)[0] = torch.inf
    return batch


def in_the_gate(objective: Imitation, batch: Any) -> Any:
    assert objective.model.gate is not None
    with torch.no_grad():
        objective.model.gate.project.weight[0, 0] = torch.nan
    return batch


def in_one_gradient(objective: Imitation, batch: Any) -> Any:
    handle: list[Any] = []

    def break_it(gradient: Tensor) -> Tensor:
        handle[0].remove()
        broken = gradient.clone()
        broken.view(-1)[0] = torch.nan
        return broken

    handle.append(objective.optimizers.parameters[0].register_hook(break_it))
    return batch


def in_a_reward(_objective: Practice, batch: PracticeBatch) -> PracticeBatch:
    groups = [replace(group, advantages=group.advantages * torch.nan) for group in batch.groups]
    return replace(batch, groups=groups)


def stops_before_a_weight_moves(
    objective: Any, poison: Poison, config: RunConfig, path: Path
) -> str:
    seen: list[dict[str, Tensor]] = []

    def and_look(objective: Any, batch: Any) -> Any:
        batch = poison(objective, batch)
        seen.append(weights(objective))
        return batch

    run, recorder = RunDir(path), Recorder("test", MultiSink({}))
    with pytest.raises(RunError, match=rf"got NaN or infinity at step {AT + 1}") as caught:
        fit(poisoned(objective, and_look), config.run, run=run, recorder=recorder)
    after = weights(objective)
    for name, value in seen[0].items():
        assert torch.equal(value, after[name]) or value.isnan().any(), name
        same = torch.equal(value.nan_to_num(7.0), after[name].nan_to_num(7.0))
        assert same, f"{name} moved in the step that failed"
    assert [verified(d).step for d in run.checkpoints()] == [2, 1]
    assert run.leftovers() == []
    return str(caught.value)


@pytest.mark.parametrize(
    "poison", [in_the_loss, in_a_weight, in_a_head, in_the_gate, in_one_gradient]
)
def test_imitation_stops(
    tiny_directory: Path,
    make_tiny_model: MakeModel,
    tmp_path: Path,
    poison: Poison,
) -> None:
    config = config_of(tiny_directory, kind="imitate", cut_after=0)
    assert isinstance(config.run.objective, ImitateObjective)
    model = MetacogModel(make_tiny_model().base)
    objective = prepare_imitation(config, config.run.objective, model, [], None)
    what = stops_before_a_weight_moves(objective, poison, config, tmp_path / "run")
    assert ("gradient" in what) == (poison is in_one_gradient)


def test_practice_stops_at_a_reward_that_is_no_number(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path: Path
) -> None:
    config = config_of(tiny_directory, kind="practice", group_size=2, updates=1)
    assert isinstance(config.run.objective, PracticeObjective)
    objective = prepare_practice(config, config.run.objective, make_tiny_model())
    stops_before_a_weight_moves(objective, in_a_reward, config, tmp_path / "run")


class Memory:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing was opened."""


@pytest.mark.parametrize(
    ("poison", "what"),
    [(in_the_loss, "a finite loss"), (with_a_spike, "within 100 times the usual")],
)
def test_a_bad_step_is_left_out_its_batch_is_told_and_the_run_goes_on(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path: Path, poison: Poison, what: str
) -> None:
    at = 12
    found = config_of(tiny_directory, kind="imitate", cut_after=0)
    loop = found.run.model_copy(update={"steps": 15, "strikes": 3})
    assert isinstance(loop.objective, ImitateObjective)
    model = MetacogModel(make_tiny_model().base)
    objective = prepare_imitation(found, loop.objective, model, [], None)
    hit: list[list[str]] = []

    def at_one_step(objective: Any, batch: Any) -> Any:
        hit.append([trace.id for trace in batch.traces])
        return poison(objective, batch)

    memory = Memory()
    fit(
        poisoned(objective, at_one_step, at=at),
        loop,
        run=RunDir(tmp_path / "run"),
        recorder=Recorder("test", memory),
    )
    (alert,) = [e for e in memory.events if e.kind is EventKind.ALERT and "batch" in e.data]
    assert alert.step == at + 1
    assert what in str(alert.data["message"])
    assert alert.data["batch"] == hit[0]
    assert len(hit[0]) == 4, "as many as the step had traces"
    saved = {step: saved_weights(tmp_path / "run", step) for step in (at, at + 1, at + 2)}
    assert saved[at] == saved[at + 1], "the weights are those before it, bit for bit"
    assert saved[at + 1] != saved[at + 2], "the run goes on"


def saved_weights(run: Path, step: int) -> str:
    return contents(run / f"checkpoint-{step}")["weights.safetensors"]


def test_so_many_bad_steps_in_a_row_stop_the_run_and_the_last_good_step_is_saved(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path: Path
) -> None:
    found = config_of(tiny_directory, kind="imitate", cut_after=0)
    loop = found.run.model_copy(update={"steps": 9, "strikes": 3})
    assert isinstance(loop.objective, ImitateObjective)
    model = MetacogModel(make_tiny_model().base)
    objective = prepare_imitation(found, loop.objective, model, [], None)
    objective.batches = from_a_step_on(objective.batches, objective)  # type: ignore[method-assign]
    memory = Memory()
    with pytest.raises(RunError, match=r"strike 3 of 3 in a row.*Its batch: "):
        fit(objective, loop, run=RunDir(tmp_path / "run"), recorder=Recorder("test", memory))
    told = [e.step for e in memory.events if e.kind is EventKind.ALERT and "batch" in e.data]
    assert told == [AT + 1, AT + 2, AT + 3]
    good = saved_weights(tmp_path / "run", AT)
    assert [saved_weights(tmp_path / "run", AT + n) for n in (1, 2)] == [good, good]
    assert not (tmp_path / "run" / f"checkpoint-{AT + 3}").exists()


def from_a_step_on(batches: Callable[[int], Iterator[Any]], objective: Any) -> Any:
    def poisoned_from(start: int) -> Iterator[Any]:
        for number, batch in enumerate(batches(start), start):
            if number == AT:
                objective._weights = dict.fromkeys(objective._weights, math.inf)
            yield batch

    return poisoned_from


@pytest.mark.parametrize("what", ["weight", "optimizer state", "running mean"])
def test_a_checkpoint_with_a_number_that_is_none_is_never_committed(
    tiny_directory: Path, make_tiny_model: MakeModel, tmp_path: Path, what: str
) -> None:
    found = config_of(tiny_directory, kind="imitate")
    config = found.model_copy(update={"run": found.run.model_copy(update={"ema": 0.5})})
    assert isinstance(config.run.objective, ImitateObjective)
    objective = prepare_imitation(
        config, config.run.objective, MetacogModel(make_tiny_model().base), [], None
    )
    run, recorder = RunDir(tmp_path / "run"), Recorder("test", MultiSink({}))
    keeper = Keeper(objective, config.run, run, recorder)
    assert keeper.ema is not None
    for parameter in objective.optimizers.parameters:
        parameter.grad = torch.ones_like(parameter)
    objective.optimizers.step(1.0)
    keeper.checkpoint(1)
    break_in(objective, keeper, what)
    with pytest.raises(RunError, match=r"checkpoint-2.*NaN"):
        keeper.checkpoint(2)
    assert [verified(d).step for d in run.checkpoints()] == [1]
    assert run.leftovers() == []


def break_in(objective: Imitation, keeper: Keeper, what: str) -> None:
    assert keeper.ema is not None
    first = objective.optimizers.parameters[0]
    with torch.no_grad():
        match what:
            case "weight":
                first.view(-1)[0] = torch.nan
            case "optimizer state":
                (part, *_) = objective.optimizers._parts
                part.state[first]["exp_avg"].view(-1)[0] = torch.inf
            case _:
                keeper.ema._means[0].view(-1)[0] = torch.nan


def test_a_run_that_stopped_so_says_it_in_its_log_and_can_go_on(
    tiny_directory: Path, tmp_path: Path
) -> None:
    found = imitation(tiny_directory)
    run = {**found["run"], "learning_rate": 1e30, "steps": 6, "save_interval": 1, "clip": 1e30}
    config = parse({**found, "run": run}, source="test")
    with pytest.raises(RunError) as caught:
        train(config, run_dir=tmp_path / "run")
    there = RunDir(tmp_path / "run")
    alerts = [e.data for e in read_events(there.events) if e.kind is EventKind.ALERT]
    assert alerts[-1]["message"] == str(caught.value)
    assert not there.final.exists()
    for directory in there.checkpoints():
        verified(directory)
