"""One server of processes for all faults, and one run that was never disturbed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import Trainer, imitation, written


@pytest.fixture(scope="session")
def trainer(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """Starts `metacog` in processes of its own."""
    found = Trainer(tiny_directory, tmp_path_factory.mktemp("processes"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def recipe(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty steps of imitation on a tiny base."""
    return written(imitation(tiny_directory), tmp_path_factory.mktemp("recipe") / "recipe.yaml")


@pytest.fixture(scope="session")
def undisturbed(trainer: Trainer, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of that recipe that nothing happened to; leave it as it is."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    code, said = trainer.run("train", str(recipe), "--run-dir", str(path))
    assert code == 0, said
    return path
