"""Which run goes on, from what, and what is left to do of one that has taken its last step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metacog.cli.train import run_recipe
from metacog.config import RunConfig, parse
from metacog.errors import ConfigError, RunError
from metacog.model.calibration import CALIBRATION_NAME, load_calibration, save_calibration
from metacog.telemetry.files import write_text
from metacog.telemetry.rundir import RunDir
from metacog.train.resume import choose, is_told_done, put_back_stop
from metacog.train.run import train, train_stage
from tests.faults.processes import contents, imitation, told, written


def document(base: Path, **run: object) -> Mapping[str, Any]:
    found: dict[str, Any] = imitation(base)
    settings = {**found["run"], "steps": 4, "save_interval": 2, "eval_interval": 2}
    return {**found, "run": {**settings, **run}}


def configured(base: Path, **run: object) -> RunConfig:
    return parse(document(base, **run), source="test")


@pytest.fixture
def ended(tiny_directory: Path, tmp_path: Path) -> RunDir:
    return train(configured(tiny_directory), run_dir=tmp_path / "run")


def test_a_stop_that_was_moved_away_for_one_that_never_came_is_put_back(ended: RunDir) -> None:
    assert put_back_stop(ended) == []
    ended.checkpoint(4).rename(ended.stopped)
    ended.set_aside(ended.stopped)
    assert put_back_stop(ended) == [], "the run went on from something else"
    write_text(ended.latest, "stopped\n")
    assert choose(ended, "auto").step == 2
    (said,) = put_back_stop(ended)
    assert "put back superseded/stopped-1" in said
    assert choose(ended, "auto").step == 4


def test_a_run_goes_on_from_a_stop_that_was_moved_away(ended: RunDir, tiny_directory: Path) -> None:
    wanted, said = contents(ended.final), list[str]()
    ended.checkpoint(4).rename(ended.stopped)
    ended.set_aside(ended.stopped)
    ended.set_aside(ended.final)
    write_text(ended.latest, "stopped\n")
    train(configured(tiny_directory), run_dir=ended.path, resume="auto", narrate=said.append)
    assert said[0].startswith(f"resumed {ended.stopped} at step 4")
    assert contents(ended.final) == wanted


def test_a_checkpoint_of_another_run_than_the_named_one_is_refused(
    ended: RunDir, tiny_directory: Path, tmp_path: Path
) -> None:
    config, before = configured(tiny_directory), contents(ended.path)
    with pytest.raises(
        ConfigError, match=r"checkpoint-2 wanted .*run, but --run-dir names .*other"
    ):
        train(config, run_dir=tmp_path / "other", resume=str(ended.checkpoint(2)))
    assert not (tmp_path / "other").exists()
    assert contents(ended.path) == before


def test_a_named_checkpoint_of_a_run_that_has_ended_is_gone_on_from(
    ended: RunDir, tiny_directory: Path
) -> None:
    wanted, figures, said = contents(ended.final), told(ended.path), list[str]()
    config = configured(tiny_directory)
    resume = str(ended.checkpoint(2))
    train(config, run_dir=ended.path, resume=resume, narrate=said.append)
    assert said[0].startswith(f"resumed {ended.checkpoint(2)} at step 2")
    assert contents(ended.path / "superseded" / "final-1") == wanted
    assert contents(ended.final) == wanted
    assert told(ended.path) == figures


def test_what_follows_the_last_step_is_made_up_for_and_done_once(
    tiny_directory: Path, tmp_path: Path
) -> None:
    config, run = configured(tiny_directory), RunDir(tmp_path / "run")
    called, said = list[Path](), list[str]()

    def fails_at_first(ended: RunDir) -> None:
        assert ended.final.is_dir()
        called.append(ended.path)
        if len(called) == 1:
            raise RunError("no room")

    with pytest.raises(RunError, match="no room"):
        train(config, run_dir=run.path, finish=fails_at_first)
    assert not is_told_done(run)
    for _ in range(2):
        train(config, run_dir=run.path, resume="auto", narrate=said.append, finish=fails_at_first)
        assert is_told_done(run)
    assert called == [run.path, run.path]
    assert "still to be done" in said[0]
    assert "nothing left to do" in said[1]


def test_a_finished_layer_keeps_its_calibration(tiny_directory: Path, tmp_path: Path) -> None:
    objective = {"kind": "layer", "plan_prompts": 0}
    found = document(tiny_directory, objective=objective, grad_accum=1)
    recipe = written({**found, "adaptation": {"enabled": False}}, tmp_path / "recipe.yaml")
    run, _ = run_recipe(recipe, (), run_dir=tmp_path / "run")
    path = run.final / CALIBRATION_NAME
    chosen = load_calibration(path)
    fitted = chosen.model_copy(update={"confidence_temperature": 2.0})
    save_calibration(path, fitted)
    run_recipe(recipe, (), run_dir=run.path, resume="auto")
    assert load_calibration(path) == fitted
    events = run.events.read_text(encoding="utf-8").splitlines(keepends=True)
    assert '"done"' in events[-1]
    run.events.write_text("".join(events[:-1]), encoding="utf-8")
    run_recipe(recipe, (), run_dir=run.path, resume="auto")
    assert load_calibration(path) == chosen, "killed before, its thresholds are chosen now"
    assert is_told_done(run)


def test_a_run_that_has_begun_may_keep_what_nothing_reads(
    tiny_directory: Path, tmp_path: Path
) -> None:
    found = document(tiny_directory)
    config = parse({**found, "length": {"max_len": 64}}, source="test")
    run = RunDir(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no use for .*length\.max_len"):
        train(config, run_dir=run.path, resume="auto")
    assert not run.path.exists()
    train_stage(config, run_dir=run.path)
    run.set_aside(run.final)
    train(config, run_dir=run.path, resume="auto")
    assert run.final.is_dir()
