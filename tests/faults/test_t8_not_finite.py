"""T8: what is not a finite number stops a run in its step, before a weight moves or is saved."""

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
from metacog.model.bundle import MetacogModel
from metacog.telemetry.events import EventKind
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
from tests.faults.processes import imitation

AT = 2
"""The step that goes wrong, from 0."""

Poison = Callable[[Any, Any], Any]
"""Takes an objective and the batch of a step; returns the batch."""


def config_of(base: Path, **objective: object) -> RunConfig:
    found = imitation(base)
    run = {**found["run"], "save_interval": 1, "steps": 6, "eval_interval": 100, "ema": None}
    return parse({**found, "run": {**run, "objective": objective}}, source="test")


def poisoned(objective: Any, poison: Poison) -> Any:
    """Let a batch come poisoned at one step."""
    sound = objective.batches

    def batches(start: int) -> Iterator[Any]:
        for number, batch in enumerate(sound(start), start):
            yield poison(objective, batch) if number == AT else batch

    objective.batches = batches
    return objective


def weights(objective: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = objective.optimizers.weights()
    return found


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


@pytest.mark.parametrize("poison", [in_a_weight, in_a_head, in_the_gate, in_one_gradient])
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
