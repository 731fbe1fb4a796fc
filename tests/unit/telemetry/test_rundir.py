import json
from datetime import datetime
from pathlib import Path

import pytest

from metacog.config import RunConfig, digest, parse
from metacog.errors import InputError, RunError
from metacog.telemetry.provenance import collect
from metacog.telemetry.rundir import RunDir, default_name


def created(path: Path, config: RunConfig) -> RunDir:
    provenance = collect(seed=config.run.seed, config_digest=digest(config), argv=["metacog"])
    return RunDir.create(path, config=config, provenance=provenance)


def test_a_new_run_explains_itself(tmp_path: Path) -> None:
    config = parse({"run": {"seed": 5, "steps": 3}}, source="test")
    run = created(tmp_path / "runs" / "one", config)
    assert run.name == "one"
    assert run.load_config() == config
    record = json.loads(run.provenance.read_text())
    assert (record["seed"], record["config_digest"]) == (5, digest(config))
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.yaml",
        "logs",
        "provenance.json",
        "report",
    ]
    assert run.checkpoint(1000) == run.path / "checkpoint-1000"


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    run = created(tmp_path / "one", RunConfig())
    run.events.write_text("kept\n")
    with pytest.raises(RunError, match="nothing is overwritten"):
        created(tmp_path / "one", RunConfig())
    assert run.events.read_text() == "kept\n"


def test_an_earlier_run_is_opened_and_nothing_else_is(tmp_path: Path) -> None:
    run = created(tmp_path / "one", RunConfig())
    assert RunDir.open(tmp_path / "one") == run
    with pytest.raises(InputError, match=r"config\.yaml"):
        RunDir.open(tmp_path)


def test_paths_do_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = created(Path("one"), RunConfig())
    assert run.path == tmp_path / "one"


def test_a_run_without_a_name_is_called_after_objective_and_time() -> None:
    now = datetime(2025, 1, 31, 17, 45, 1)
    assert default_name("layer", now) == "layer-20250131-174501"
