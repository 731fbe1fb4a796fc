"""T9: a run does not go on under other settings, on another base, or with other data, in silence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from metacog.config import RunConfig, load, parse
from metacog.errors import CheckpointError, ConfigError
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.train.run import train
from tests.faults.processes import contents, imitation, told
from tests.textdata import rows, write_jsonl


@pytest.fixture
def base(tiny_directory: Path, tmp_path: Path) -> Path:
    """A base of one's own, to be changed."""
    shutil.copytree(tiny_directory, tmp_path / "base")
    return tmp_path / "base"


def configured(base: Path, **run: object) -> RunConfig:
    found = imitation(base)
    settings = {**found["run"], "steps": 4, "save_interval": 2, "eval_interval": 2, **run}
    return parse({**found, "run": settings}, source="test")


@pytest.fixture
def begun(base: Path, tmp_path: Path) -> RunDir:
    """A run that has not come to its end."""
    run = train(configured(base), run_dir=tmp_path / "run")
    shutil.rmtree(run.final)
    shutil.rmtree(run.checkpoint(4))
    return run


@pytest.mark.parametrize(
    ("override", "told_of"),
    [
        ({"learning_rate": 0.5}, r"run\.learning_rate was 0\.001 and is 0\.5"),
        ({"seed": 9}, r"run\.seed was 0 and is 9"),
        ({"batch": 4, "clip": 2.0}, r"run\.batch was 2 and is 4; run\.clip was 1\.0 and is 2\.0"),
        ({"steps": 3}, r"run\.steps was 4 and is 3"),
        ({"ema": None}, r"run\.ema was 0\.9 and is None"),
    ],
)
def test_settings_that_change_the_result_are_refused_by_name(
    base: Path, begun: RunDir, override: dict[str, object], told_of: str
) -> None:
    before = contents(begun.path)
    with pytest.raises(ConfigError, match=told_of):
        train(configured(base, **override), run_dir=begun.path, resume="auto")
    assert contents(begun.path) | {"lock": ""} == before | {"lock": ""}


def test_more_steps_and_other_intervals_are_allowed_and_told(base: Path, begun: RunDir) -> None:
    said: list[str] = []
    changed = configured(base, steps=6, save_interval=3, keep_last=5)
    train(changed, run_dir=begun.path, resume="auto", narrate=said.append)
    assert "changed: run.steps 4 -> 6" in said[0]
    assert begun.load_config() == changed
    assert load(begun.logs / "config-until-2.yaml") == configured(base)
    assert {d.name for d in begun.checkpoints()} == {"checkpoint-2", "checkpoint-3", "checkpoint-6"}
    assert begun.final.is_dir()


def test_a_finished_run_is_left_alone_and_with_more_steps_its_end_is_kept(
    base: Path, tmp_path: Path
) -> None:
    run = train(configured(base), run_dir=tmp_path / "run")
    before, said = contents(run.path), list[str]()
    train(configured(base), run_dir=run.path, resume="auto", narrate=said.append)
    assert "nothing left to do" in said[0]
    assert contents(run.path) | {"lock": ""} == before | {"lock": ""}
    ended = contents(run.final)
    train(configured(base, steps=6), run_dir=run.path, resume="auto")
    assert contents(run.path / "superseded" / "final-1") == ended
    assert contents(run.final) != ended
    assert [step for step, _ in told(run.path)] == [2, 4, 4, 6, 6]


def test_another_base_in_the_same_place_is_refused(base: Path, begun: RunDir) -> None:
    tensors = load_file(base / "model.safetensors")
    name = next(iter(sorted(tensors)))
    save_file({**tensors, name: tensors[name] + 1}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"base was .* and is "):
        train(configured(base), run_dir=begun.path, resume="auto")


def test_another_tokenizer_in_the_same_place_is_refused(base: Path, begun: RunDir) -> None:
    template = base / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer was .* and is "):
        train(configured(base), run_dir=begun.path, resume="auto")


def test_a_tokenizer_with_other_rules_and_the_same_vocabulary_is_refused(
    base: Path, begun: RunDir
) -> None:
    path = base / "tokenizer.json"
    rules = json.loads(path.read_text(encoding="utf-8"))
    assert rules["normalizer"] is None
    path.write_text(json.dumps({**rules, "normalizer": {"type": "NFKC"}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer was .* and is "):
        train(configured(base), run_dir=begun.path, resume="auto")


def over_rows(base: Path, data: Path, **settings: object) -> RunConfig:
    """A run over rows of text; files are read in their order but for a small buffer."""
    found = imitation(base)
    text = {"path": str(data), "shuffle_buffer": 8, "validation_rows": 2, **settings}
    run = {**found["run"], "steps": 4, "save_interval": 2, "eval_interval": 2, "ema": None}
    return parse({**found, "data": text, "run": run}, source="test")


@pytest.fixture
def reading(base: Path, tmp_path: Path) -> tuple[Path, RunDir]:
    """A file of rows, and a run over them that has not come to its end."""
    data = write_jsonl(tmp_path / "rows.jsonl", rows(60))
    run = train(over_rows(base, data), run_dir=tmp_path / "run")
    shutil.copytree(run.path, tmp_path / "whole")
    shutil.rmtree(run.final)
    shutil.rmtree(run.checkpoint(4))
    return data, run


def test_a_row_that_was_changed_is_seen_where_the_file_is_as_large(
    base: Path, reading: tuple[Path, RunDir]
) -> None:
    data, run = reading
    before = data.read_text(encoding="utf-8")
    assert before.count("What is 57 +") == 1
    data.write_text(before.replace("What is 57 +", "What is 75 +"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"Wanted a position in .*rows\.jsonl:.*got one in"):
        train(over_rows(base, data), run_dir=run.path, resume="auto")
    data.write_text(before, encoding="utf-8")
    train(over_rows(base, data), run_dir=run.path, resume="auto")


def test_rows_that_are_read_further_ahead_change_nothing_and_that_is_told(
    base: Path, reading: tuple[Path, RunDir], tmp_path: Path
) -> None:
    data, run = reading
    said: list[str] = []
    changed = over_rows(base, data, prefetch=3)
    train(changed, run_dir=run.path, resume="auto", narrate=said.append)
    assert "changed: data.prefetch 64 -> 3" in said[0]
    for name in ("checkpoint-4", "final"):
        again, whole = contents(run.path / name), contents(tmp_path / "whole" / name)
        assert again | {"manifest.json": ""} == whole | {"manifest.json": ""}


def test_a_checkpoint_saved_under_other_settings_than_the_run_has_is_refused(
    base: Path, begun: RunDir
) -> None:
    text = begun.config.read_text(encoding="utf-8")
    begun.config.write_text(text.replace("seed: 0", "seed: 5"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="saved under other settings"):
        train(configured(base, seed=5), run_dir=begun.path, resume="auto")


def test_collected_data_that_is_damaged_or_another_is_refused(base: Path, tmp_path: Path) -> None:
    found = imitation(base)
    objective = {"kind": "layer", "plan_prompts": 0}
    run = {**found["run"], "objective": objective, "grad_accum": 1, "steps": 2, "save_interval": 1}
    config = parse({**found, "run": run, "adaptation": {"enabled": False}}, source="test")
    begun = train(config, run_dir=tmp_path / "run")
    for directory in (begun.final, begun.checkpoint(2)):
        shutil.rmtree(directory)
    path = begun.features / "layer-train.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "natural": tensors["natural"] + 1}, path)
    with pytest.raises(CheckpointError, match=r"layer-train\.safetensors.*damaged.*Remove"):
        train(config, run_dir=begun.path, resume="auto")
    index = begun.features / "index.json"
    record = json.loads(index.read_text(encoding="utf-8"))
    shutil.rmtree(begun.features)
    train(config, run_dir=begun.path, resume="auto")
    assert json.loads(index.read_text(encoding="utf-8")) == record, "collected again, the same"


def test_other_versions_are_told_of(base: Path, begun: RunDir) -> None:
    record = json.loads(begun.provenance.read_text(encoding="utf-8"))
    record["versions"]["torch"] = "1.0"
    begun.provenance.write_text(json.dumps(record), encoding="utf-8")
    said: list[str] = []
    train(configured(base), run_dir=begun.path, resume="auto", narrate=said.append)
    wanted = f"not bit for bit the same any more: torch was 1.0 and is {torch.__version__}"
    assert wanted.partition("+")[0] in said[0]
    resumed = [e.data for e in read_events(begun.events) if e.kind is EventKind.STATUS]
    assert resumed[-2]["message"] == "resumed"
