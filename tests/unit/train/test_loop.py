from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from metacog.config.run import TrainingConfig
from metacog.errors import RunError
from metacog.losses.combine import LossName
from metacog.losses.report import LossReport, Tally
from metacog.model.learner import Learner
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.checkpoint import Keeper, forget_old
from metacog.train.loop import fit
from metacog.train.optim import Group, Optimizers
from metacog.train.result import Counts, StepResult
from metacog.train.state import State


class Memory:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing was opened."""


class Quadratic:
    """Descends to 3, 3 and notes what the loop does."""

    def __init__(self, *, broken_at: int | None = None, finished_at: int | None = None) -> None:
        self.weight = nn.Parameter(torch.zeros(2))
        self.optimizers = Optimizers([Group("weight", [self.weight], 0.1)])
        self.seen: list[int] = []
        self.broken_at, self.finished_at = broken_at, finished_at
        self.open = 0

    @property
    def is_finished(self) -> bool:
        return self.finished_at is not None and len(self.seen) >= self.finished_at

    def batches(self, start: int) -> Iterator[int]:
        yield from count(start)

    def parts(self, batch: int) -> list[int]:
        return [batch]

    def counts(self, _parts: Sequence[int]) -> Counts | None:
        return None

    def learner(self) -> Learner:
        return Learner()

    @contextmanager
    def step(
        self, part: int, _counts: Counts | None = None, _learner: Learner | None = None
    ) -> Iterator[StepResult]:
        self.seen.append(part)
        loss = (self.weight - 3).square().sum()
        if part == self.broken_at:
            loss = loss * self.broken()
        self.open += 1
        report = LossReport(loss, torch.tensor(1.0))
        yield StepResult(loss, {LossName.ANSWER: report}, {LossName.ANSWER: 1.0}, 4)
        assert self.weight.grad is not None, "what was hooked in is gone before the backward pass"
        self.open -= 1

    def broken(self) -> torch.Tensor:
        return torch.tensor(torch.nan)

    def evaluate(self) -> Mapping[str, float]:
        return {"eval/validation/loss": float((self.weight.detach() - 3).square().sum())}

    def state(self) -> State:
        return State({}, {})

    def load_state(self, _state: State) -> None:
        """There is nothing to take up."""

    def save(self, directory: Path, *, whole: bool = True) -> None:
        assert whole == (directory.name.startswith(".final")), "only the end is written whole"
        (directory / "weight.txt").write_text(repr(self.weight.tolist()), encoding="utf-8")


class BrokenGradient(Quadratic):
    """Has a finite loss whose gradient is not."""

    def broken(self) -> torch.Tensor:
        return 1 + (self.weight - self.weight.detach()).sum().sqrt()


def config_of(**changes: object) -> TrainingConfig:
    settings = {"steps": 25, "warmup": 0, "decay": 0.0, "save_interval": 10, "eval_interval": 6}
    settings["strikes"] = 1
    return TrainingConfig.model_validate({**settings, **changes})


def run(objective: Quadratic, path: Path, **changes: object) -> tuple[int, list[Event]]:
    memory = Memory()
    recorder = Recorder("test", memory)
    start = int(str(changes.pop("start", 0)))
    config = config_of(**changes)
    steps = fit(objective, config, run=RunDir(path), recorder=recorder, start=start)
    return steps, memory.events


def steps_of(events: list[Event], kind: EventKind) -> list[int]:
    return [event.step for event in events if event.kind is kind]


def test_saves_where_the_interval_divides_the_step_and_evaluates_there_and_at_the_end(
    tmp_path: Path,
) -> None:
    steps, events = run(Quadratic(), tmp_path)
    assert steps == 25
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-20",
        "final",
        "latest",
    ]
    assert steps_of(events, EventKind.EVAL) == [6, 12, 18, 24, 25]
    assert steps_of(events, EventKind.CHECKPOINT) == [10, 20, 25]
    assert steps_of(events, EventKind.METRICS) == [10, 20, 25]
    paths = [str(e.data["path"]) for e in events if e.kind is EventKind.CHECKPOINT]
    names = ("checkpoint-10", "checkpoint-20", "final")
    assert paths == [str((tmp_path / name).absolute()) for name in names]


def test_a_run_shorter_than_the_interval_is_not_evaluated(tmp_path: Path) -> None:
    _, events = run(Quadratic(), tmp_path, eval_interval=26)
    assert steps_of(events, EventKind.EVAL) == []


def test_a_checkpoint_holds_the_weights_of_its_step(tmp_path: Path) -> None:
    run(Quadratic(), tmp_path)
    short, ten = Quadratic(), tmp_path / "short"
    run(short, ten, steps=10, save_interval=1000)
    saved = (tmp_path / "checkpoint-10" / "weight.txt").read_text(encoding="utf-8")
    assert saved == repr(short.weight.tolist())
    assert [p.name for p in ten.iterdir()] == ["final"]


def test_the_loss_falls_and_metrics_hold_rate_norm_and_speed(tmp_path: Path) -> None:
    objective = Quadratic()
    _, events = run(objective, tmp_path)
    metrics = [event.data for event in events if event.kind is EventKind.METRICS]
    losses = [float(str(values["train/loss"])) for values in metrics]
    assert losses == sorted(losses, reverse=True)
    for values in metrics:
        assert values["train/learning_rate/weight"] == pytest.approx(0.1)
        assert float(str(values["train/grad_norm"])) > 0
        assert float(str(values["perf/tokens_per_s"])) > 0
        assert "perf/points_per_s" not in values
    assert objective.open == 0


def test_the_rate_follows_its_course(tmp_path: Path) -> None:
    _, events = run(Quadratic(), tmp_path, steps=20, warmup=0, decay=1.0)
    rates = [
        float(str(e.data["train/learning_rate/weight"]))
        for e in events
        if e.kind is EventKind.METRICS
    ]
    assert rates == pytest.approx([0.1 * 11 / 20, 0.1 * 1 / 20])


def test_gradients_are_clipped_and_their_norm_is_logged_before(tmp_path: Path) -> None:
    norms: list[float] = []

    class Noting(Optimizers):
        def step(self, factor: float) -> None:
            norms.extend(float(p.grad.norm()) for p in self.parameters if p.grad is not None)
            super().step(factor)

    objective = Quadratic()
    objective.optimizers = Noting(objective.optimizers.groups)
    _, events = run(objective, tmp_path, steps=1, clip=0.5)
    assert norms == pytest.approx([0.5], rel=1e-4)
    logged = next(e.data["train/grad_norm"] for e in events if e.kind is EventKind.METRICS)
    assert logged == pytest.approx(6 * 2**0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "what"), [(Quadratic, "finite loss"), (BrokenGradient, "finite gradient")]
)
def test_what_is_not_finite_stops_the_run_before_a_weight_changes(
    tmp_path: Path, kind: type[Quadratic], what: str
) -> None:
    objective, sound = kind(broken_at=4), Quadratic()
    run(sound, tmp_path / "sound", steps=4, save_interval=1000)
    with pytest.raises(RunError, match=f"{what}.*step 5"):
        run(objective, tmp_path / "broken", save_interval=3)
    assert objective.weight.tolist() == sound.weight.tolist()
    assert sorted(p.name for p in (tmp_path / "broken").iterdir()) == ["checkpoint-3", "latest"]


def test_an_objective_that_has_finished_stops_early_and_is_saved(tmp_path: Path) -> None:
    objective = Quadratic(finished_at=7)
    steps, events = run(objective, tmp_path)
    assert steps == 7
    assert objective.seen == list(range(7))
    assert [p.name for p in tmp_path.iterdir()] == ["final"]
    assert steps_of(events, EventKind.CHECKPOINT) == [7]
    assert steps_of(events, EventKind.METRICS) == [7], "its last step is told"


def test_a_later_start_goes_on_with_the_batch_of_its_step(tmp_path: Path) -> None:
    objective = Quadratic()
    steps, events = run(objective, tmp_path, start=18)
    assert steps == 25
    assert objective.seen == list(range(18, 25))
    assert steps_of(events, EventKind.CHECKPOINT) == [20, 25]


@pytest.mark.parametrize(
    ("keep_last", "kept"), [(1, [25]), (2, [20, 25]), (9, [5, 10, 15, 20, 25]), (None, None)]
)
def test_the_latest_checkpoints_are_kept_and_the_final_state_always(
    tmp_path: Path, keep_last: int | None, kept: list[int] | None
) -> None:
    _, events = run(Quadratic(), tmp_path, save_interval=5, keep_last=keep_last)
    steps = [5, 10, 15, 20, 25]
    assert steps_of(events, EventKind.CHECKPOINT) == [*steps, 25]
    names = {f"checkpoint-{step}" for step in (steps if kept is None else kept)}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "final", "latest"}


def test_the_latest_is_that_of_the_highest_step_and_is_left_whole(tmp_path: Path) -> None:
    run(Quadratic(), tmp_path / "all", steps=10, save_interval=1)
    run(Quadratic(), tmp_path / "one", steps=10, save_interval=1, keep_last=1)
    (kept,) = (tmp_path / "one").glob("checkpoint-*")
    assert kept.name == "checkpoint-10", "10 comes after 9"
    wanted = (tmp_path / "all" / "checkpoint-10" / "weight.txt").read_text(encoding="utf-8")
    assert (kept / "weight.txt").read_text(encoding="utf-8") == wanted


def test_forgetting_leaves_everything_else_in_the_run(tmp_path: Path) -> None:
    for name in ("checkpoint-3", "checkpoint-20", "final", "logs", "features"):
        (tmp_path / name).mkdir()
    (tmp_path / "events.jsonl").write_text("", encoding="utf-8")
    forget_old(RunDir(tmp_path), 1)
    left = {"checkpoint-20", "final", "logs", "features", "events.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_save_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    class Torn(Quadratic):
        def save(self, directory: Path, *, whole: bool = True) -> None:
            super().save(directory, whole=whole)
            raise OSError("no space left")

    memory = Memory()
    keeper = Keeper(Torn(), config_of(), RunDir(tmp_path), Recorder("test", memory))
    with pytest.raises(RunError, match=r"save step 10 in .*checkpoint-10.*no space.*--resume auto"):
        keeper.checkpoint(10)
    assert list(tmp_path.iterdir()) == []
    assert memory.events == []


def test_a_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    run(Quadratic(), tmp_path)
    with pytest.raises(RunError, match="exists"):
        run(Quadratic(), tmp_path)


class InParts(Quadratic):
    """The same loss as a sum over labels, two parts of which have one label and three."""

    def parts(self, _batch: int) -> list[int]:
        return [1, 3]

    def counts(self, parts: Sequence[int]) -> Counts:
        return {LossName.ANSWER: torch.tensor(float(sum(parts)))}

    def learner(self) -> Learner:
        return Learner()

    @contextmanager
    def step(
        self, part: int, counts: Counts | None = None, _learner: Learner | None = None
    ) -> Iterator[StepResult]:
        assert counts is not None
        total = part * (self.weight - 3).square().sum()
        report = LossReport(total, torch.tensor(float(part)))
        loss = report.mean(counts[LossName.ANSWER])
        tallies = {"think_tokens_used": Tally.of(torch.full((part,), float(part)))}
        yield StepResult(
            loss, {LossName.ANSWER: report}, {LossName.ANSWER: 1.0}, 4, tallies=tallies
        )


def test_parts_of_a_step_add_up_to_one_pass_in_weights_and_in_what_is_logged(
    tmp_path: Path,
) -> None:
    whole, split = Quadratic(), InParts()
    _, wanted = run(whole, tmp_path / "whole", steps=10)
    _, got = run(split, tmp_path / "split", steps=10)
    torch.testing.assert_close(split.weight, whole.weight)
    one, two = (next(e.data for e in es if e.kind is EventKind.METRICS) for es in (wanted, got))
    for name in ("train/loss", "train/loss_answer", "train/grad_norm"):
        assert two[name] == pytest.approx(one[name])
    assert two["think_tokens_used"] == pytest.approx((1 + 3 * 3) / 4)
