"""T11: a process of several that dies takes the others with it, and the run goes on as if it had not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metacog.errors import RunError
from metacog.train.processes import Processes, ProcessLost, noticing_loss
from tests.faults.processes import Process, Trainer, contents, imitation, told, wait_until, written

SECONDS = 60
"""Within which the others must have ended."""


@pytest.fixture(scope="module")
def recipe_of_two(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With noise of each process's own, so that going on needs the random numbers of both."""
    return written(imitation(tiny_directory), tmp_path_factory.mktemp("two") / "two.yaml")


def ends(processes: list[Process]) -> tuple[list[int], float]:
    """Return exit codes, and how long it took."""
    begun = time.monotonic()
    codes = [process.wait() for process in processes]
    return codes, time.monotonic() - begun


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_killed_process_ends_the_other_and_both_go_on_bit_for_bit(
    trainer: Trainer, recipe_of_two: Path, tmp_path: Path, strategy: str
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    codes, said = trainer.run_together(
        "train", str(recipe_of_two), "--run-dir", str(whole), strategy=strategy
    )
    assert codes == [0, 0], said
    command = ("train", str(recipe_of_two), "--run-dir", str(run))
    both = trainer.launch(*command, strategy=strategy)
    wait_until((run / "checkpoint-5" / "manifest.json").is_file, seconds=120)
    both[1].kill()
    codes, seconds = ends(both)
    assert codes[1] == -signal.SIGKILL
    if not (run / "final").is_dir():  # else it was too late
        assert codes[0] == 1
        assert "but one has ended; look at what it wrote last" in both[0].said
    assert seconds < SECONDS
    codes, said = trainer.run_together(*command, "--resume", "auto", strategy=strategy)
    assert codes == [0, 0], said
    for place in ("checkpoint-20", "final"):
        assert contents(run / place) == contents(whole / place)
    assert told(run) == told(whole)


def test_a_run_of_two_does_not_go_on_with_one_nor_in_another_way(
    trainer: Trainer, recipe_of_two: Path, tmp_path: Path
) -> None:
    command = ("train", str(recipe_of_two), "--run-dir", str(tmp_path / "run"))
    codes, said = trainer.run_together(*command, "--set", "run.steps=5", strategy="ddp")
    assert codes == [0, 0], said
    before = contents(tmp_path / "run")
    more = (*command, "--set", "run.steps=6", "--resume", "auto")
    code, said = trainer.run(*more)
    assert code == 2
    assert "saved by a run on 2 ddp process(es), and would go on with 1" in said
    codes, said = trainer.run_together(*more, strategy="fsdp2")
    assert codes == [2, 1], "the second process is told of what the first one refuses"
    assert said.count("2 ddp process(es), and would go on with 2 fsdp2") == 2
    assert contents(tmp_path / "run") | {"lock": ""} == before | {"lock": ""}


def test_a_signal_to_one_process_stops_both_after_the_same_step(
    trainer: Trainer, recipe_of_two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", str(recipe_of_two), "--run-dir", str(run), "--set", "run.steps=100000")
    both = trainer.launch(*command, strategy="ddp")
    wait_until((run / "checkpoint-5" / "manifest.json").is_file, seconds=120)
    both[1].kill(signal.SIGTERM)
    codes, seconds = ends(both)
    assert codes == [143, 143]
    assert seconds < SECONDS
    state = json.loads((run / "stopped" / "state.json").read_bytes())
    assert len(state["others"]) == 1
    assert state["others"][0]["random"] != state["random"]


def test_launched_by_accelerate_all_end_when_one_is_killed(
    recipe_of_two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", "metacog"]
    command = [*launch, "train", str(recipe_of_two), "--run-dir", str(run)]
    log = (tmp_path / "log").open("w")
    launcher = subprocess.Popen(
        [*command, "--set", "run.steps=100000"],
        stdout=log,
        stderr=log,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    with log:
        wait_until((run / "checkpoint-5" / "manifest.json").is_file, seconds=240)
        begun = time.monotonic()
        os.kill(json.loads((run / "lock").read_bytes())["pid"], signal.SIGKILL)
        assert launcher.wait(timeout=SECONDS) == 1
        assert time.monotonic() - begun < SECONDS


def test_what_fails_on_one_process_fails_on_all() -> None:
    class Second(Processes):
        """The second of two, whose first one has failed."""

        def gather(self, value: object) -> list[object]:
            return ["Wanted a disk with room.", value]

    second = Second(1, 2, "ddp")
    with pytest.raises(RunError, match=r"Wanted a disk with room\."):
        second.first(lambda: None)
    with pytest.raises(RunError, match=r"Process 0 failed: Wanted a disk"):
        second.together(lambda: 3)
    with pytest.raises(ProcessLost, match=r"has ended.*closed by peer"), noticing_loss():
        raise RuntimeError("Connection closed by peer")
