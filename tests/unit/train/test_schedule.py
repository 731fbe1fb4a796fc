"""Several objectives in one run: each stage a run of its own, from the model of the one before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from metacog.config import RunConfig, load, parse
from metacog.errors import ConfigError, RunStopped
from metacog.model.bundle import load_model
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.train import schedule
from metacog.train.schedule import stages_of, train_schedule

IMITATE = {
    "steps": 2,
    "batch": 4,
    "objective": {"kind": "imitate", "traces": "own", "rollouts": 1},
}
PRACTICE = {
    "steps": 1,
    "batch": 2,
    "learning_rate": 0.0005,
    "objective": {"kind": "practice", "group_size": 2, "predicted": 1, "uncapped": 1},
}
REREAD = {"steps": 3, "num_prompts": 10, "objective": {"kind": "reread"}}


def configured(*stages: object) -> RunConfig:
    document = {
        "model": {"path": "nano"},
        "data": {"tasks": ["aiw", "count_bits"], "num_prompts": 20},
        "adaptation": {"mode": "lora", "last_k": 6, "lora_rank": 4},
        "plan": {"scale": {}},
        "sampling": {"temperature": 0.6, "top_p": 1.0},
        "logging": {"sinks": ["jsonl"]},
        "run": {"warmup": 0, "objective": {"kind": "schedule", "stages": stages}},
    }
    return parse(document, source="test")


def weights_of(path: Path | str) -> dict[str, torch.Tensor]:
    return dict(load_model(path).base.model.state_dict())


def test_stages_take_over_what_they_leave_open(tmp_path: Path) -> None:
    config = configured(IMITATE, PRACTICE, REREAD)
    first, second, third = stages_of(config, tmp_path)
    assert [stage.name for stage in (first, second, third)] == [
        "1-imitate",
        "2-practice",
        "3-reread",
    ]
    assert (first.config.run.steps, first.config.run.batch) == (2, 4)
    assert first.config.run.learning_rate == config.run.learning_rate
    assert second.config.run.learning_rate == 0.0005
    assert first.config.data.num_prompts == 20
    assert third.config.data.num_prompts == 10
    assert third.config.run.batch == config.run.batch
    paths = [stage.config.model.path for stage in (first, second, third)]
    assert paths == ["nano", str(first.path / "final"), str(second.path / "final")]
    assert config.run.objective.kind == "schedule"


def test_one_run_goes_from_imitation_through_practice(tmp_path: Path) -> None:
    run = train_schedule(configured(IMITATE, PRACTICE, REREAD), run_dir=tmp_path / "run")
    stages = [RunDir(run.path / name) for name in ("1-imitate", "2-practice", "3-reread")]
    start, *after = (weights_of(p) for p in ("nano", *(stage.final for stage in stages)))
    imitated, practised, reread = after
    whole_base = weights_of(run.final)
    assert all(torch.equal(whole_base[name], reread[name]) for name in start)
    assert any(not torch.equal(start[name], imitated[name]) for name in start)
    assert any(not torch.equal(imitated[name], practised[name]) for name in start)
    assert all(torch.equal(practised[name], reread[name]) for name in start)
    last, whole = (load_model(path).reader for path in (stages[-1].final, run.final))
    assert last is not None
    assert whole is not None
    assert all(
        torch.equal(tensor, whole.layer.state_dict()[name])
        for name, tensor in last.layer.state_dict().items()
    )
    said = [e.data["message"] for e in read_events(run.events) if "message" in e.data]
    assert said == ["stage 1 of 3", "stage 2 of 3", "stage 3 of 3", "done"]
    lengths = [
        event.data["think_len"]
        for event in read_events(stages[1].events)
        if "think_len" in event.data
    ]
    assert len(lengths) == 1


def test_a_schedule_goes_on_in_the_stage_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = configured(IMITATE, REREAD), tmp_path / "run"
    really = schedule.train_stage
    begun: list[str] = []

    def stopped_once(stage: RunConfig, **options: Any) -> RunDir:
        begun.append(stage.run.objective.kind)
        if begun == ["imitate", "reread"]:
            raise RunStopped("asked to")
        return really(stage, **options)

    monkeypatch.setattr(schedule, "train_stage", stopped_once)
    with pytest.raises(RunStopped):
        train_schedule(config, run_dir=path)
    made = (path / "1-imitate" / "final" / "model.safetensors").stat().st_mtime_ns
    assert not (path / "final").exists()
    run = train_schedule(config, run_dir=path, resume="auto")
    assert begun == ["imitate", "reread", "reread"]
    assert (path / "1-imitate" / "final" / "model.safetensors").stat().st_mtime_ns == made
    assert run.final.is_dir()
    assert train_schedule(config, run_dir=path, resume="auto").path == run.path
    assert begun == ["imitate", "reread", "reread"]


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    train_schedule(configured(IMITATE), run_dir=tmp_path / "run")
    other = configured({**IMITATE, "steps": 3})
    with pytest.raises(ConfigError, match="cannot go on under other settings"):
        train_schedule(other, run_dir=tmp_path / "run", resume="auto")


def test_a_single_checkpoint_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="goes on in the stage that was left"):
        train_schedule(configured(IMITATE), resume=str(tmp_path / "checkpoint-1"))


def test_only_the_first_stage_may_name_a_layer(tmp_path: Path) -> None:
    named = {"steps": 1, "objective": {"kind": "reread", "layer_path": "runs/layer/final"}}
    assert len(stages_of(configured(named), tmp_path)) == 1
    with pytest.raises(ConfigError, match="Stage 2 goes on from the model of the stage before it"):
        stages_of(configured(IMITATE, named), tmp_path)


def test_a_setting_that_a_stage_has_no_use_for_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"reread has no use for run\.grad_accum"):
        train_schedule(configured(IMITATE, {**REREAD, "grad_accum": 2}), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_shipped_schedule_runs(tmp_path: Path) -> None:
    recipe = load(Path(__file__).parents[3] / "recipes" / "adapt.yaml", ["data.num_prompts=16"])
    document = recipe.model_dump(mode="json")
    for stage in document["run"]["objective"]["stages"]:
        stage |= {"steps": 1, "batch": 2, "warmup": 0}
        stage["num_prompts"] = 16
        if stage["grad_accum"]:
            stage["grad_accum"] = 1
    run = train_schedule(parse(document, source="test"), run_dir=tmp_path / "run")
    assert load_model(run.final).base.digest != load_model("nano").base.digest
