"""A model is found under its name, in its directory, and in the run that made it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metacog.config import RunConfig, dump, parse
from metacog.errors import ModelError
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.places import Place, resolve_model

MakeRun = Callable[[Path], Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a run's directory whose configuration names a base."""

    def make(base: Path) -> Path:
        run = tmp_path / "run"
        run.mkdir()
        config = parse({"model": {"path": str(base)}}, source="test")
        (run / "config.yaml").write_text(dump(config), encoding="utf-8")
        return run

    return make


def test_names(tiny_directory: Path, tmp_path: Path) -> None:
    assert resolve_model(str(tiny_directory)) == Place(tiny_directory, tiny_directory)
    assert resolve_model("nano").base.name == "nano"
    for name in ("nonesuch", str(tmp_path / "nowhere")):
        with pytest.raises(
            ModelError,
            match=r"bundled model \(nano, nano-adapted\), an existing directory or a hub id",
        ):
            load_model(name)


def test_a_directory_goes_before_a_bundled_name(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_directory, tmp_path / "nano")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("nano") == Place(Path("nano"), Path("nano"))


@pytest.mark.parametrize("part", ["", "final", "checkpoint-3"])
def test_a_runs_layer_goes_with_the_base_of_its_configuration(
    tiny_model: MetacogModel, tiny_directory: Path, make_run: MakeRun, part: str
) -> None:
    run = make_run(tiny_directory)
    for name in ("final", "checkpoint-3"):
        tiny_model.save_layer(run / name)
    assert resolve_model(str(run / part)) == Place(tiny_directory, run / (part or "final"))
    found = load_model(run / part)
    assert found.base.digest == tiny_model.base.digest
    assert found.reader is not None
    assert found.gate is not None


def test_a_layer_is_found_from_inside_its_run(
    tiny_model: MetacogModel,
    tiny_directory: Path,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(tiny_directory)
    tiny_model.save_layer(run / "final")
    monkeypatch.chdir(run / "final")
    assert resolve_model(".").base == tiny_directory


def test_a_run_that_made_a_base_is_that_base(tiny_directory: Path, make_run: MakeRun) -> None:
    run = make_run(Path("what it began from"))
    shutil.copytree(tiny_directory, run / "final")
    assert resolve_model(str(run)) == Place(run / "final", run / "final")
    assert load_model(run).reader is None


def test_a_layer_on_the_base_of_another_run(
    tiny_model: MetacogModel, tiny_directory: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    pretrained = tmp_path / "pretrained"
    shutil.copytree(tiny_directory, pretrained / "final")
    (pretrained / "config.yaml").write_text(dump(RunConfig()), encoding="utf-8")
    run = make_run(pretrained)
    tiny_model.save_layer(run / "final")
    assert resolve_model(str(run)) == Place(pretrained / "final", run / "final")


def test_another_layer_goes_before_the_runs_own(
    tiny_model: MetacogModel, tiny_directory: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(tiny_directory)
    tiny_model.save_layer(run / "final")
    MetacogModel(tiny_model.base, tiny_model.reader).save_layer(tmp_path / "other")
    assert load_model(run, layer=tmp_path / "other").gate is None


@pytest.mark.parametrize("has_card", [False, True])
def test_what_is_none_of_them_is_refused_with_what_was_looked_for(
    tiny_model: MetacogModel, tmp_path: Path, has_card: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if has_card:
        tiny_model.save_layer(place)
    with pytest.raises(
        ModelError,
        match=r"config\.json.*config\.yaml and final/.*metacog\.json.*in .*place.*--layer",
    ):
        load_model(place)


def test_what_else_lies_in_a_run_is_no_layer(tiny_directory: Path, make_run: MakeRun) -> None:
    logs = make_run(tiny_directory) / "logs"
    logs.mkdir()
    with pytest.raises(ModelError, match=r"found none of these in .*logs"):
        load_model(logs)


def test_a_run_without_a_final_is_refused(tiny_directory: Path, make_run: MakeRun) -> None:
    with pytest.raises(ModelError, match=r"config\.yaml and final/"):
        load_model(make_run(tiny_directory))


def test_a_base_that_a_run_names_and_that_is_gone(
    tiny_model: MetacogModel, make_run: MakeRun
) -> None:
    run = make_run(Path("gone"))
    tiny_model.save_layer(run / "final")
    with pytest.raises(ModelError, match=r"got 'gone'.* It is model\.path in .*config\.yaml"):
        load_model(run)
