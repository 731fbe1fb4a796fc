"""T1: a run that is killed at any moment goes on as if nothing had happened."""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.processes import Trainer, contents, told

MOMENTS = 50
NOW = 4
"""Kills of the part that `make test` runs."""
SAVED = ("checkpoint-5", "checkpoint-10", "checkpoint-15", "checkpoint-20", "final")


def assert_same(run: Path, undisturbed: Path) -> None:
    for name in SAVED:
        assert contents(run / name) == contents(undisturbed / name), name
    assert told(run) == told(undisturbed)


def runs_until_killed(
    trainer: Trainer, recipe: Path, directory: Path, kills: int, seed: int, seconds: float
) -> Iterator[Path]:
    """Kill and resume until there were so many kills; yield each run that came to its end."""
    rng, killed, number = Random(seed), 0, 0
    while killed < kills:
        run = directory / f"run-{number}"
        number += 1
        code = -9
        while code == -9:
            process = trainer.start("train", str(recipe), "--run-dir", str(run), "--resume", "auto")
            if killed < kills:
                time.sleep(rng.uniform(0, seconds))
                process.kill()
            code = process.wait()
            killed += code == -9
        assert code == 0, process.said
        yield run


@pytest.mark.parametrize(
    ("kills", "seed"),
    [(NOW, 0), pytest.param(MOMENTS - NOW, 1, marks=pytest.mark.slow)],
)
def test_a_run_killed_at_any_moment_ends_as_an_undisturbed_one(
    trainer: Trainer, recipe: Path, undisturbed: Path, tmp_path: Path, kills: int, seed: int
) -> None:
    started = time.monotonic()
    assert trainer.run("train", str(recipe), "--run-dir", str(tmp_path / "timed"))[0] == 0
    seconds = time.monotonic() - started
    for run in runs_until_killed(trainer, recipe, tmp_path, kills, seed, seconds):
        assert_same(run, undisturbed)
