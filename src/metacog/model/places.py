"""Where a model lies: under a bundled name, in a directory of its own, or in a training run."""

from dataclasses import dataclass
from pathlib import Path

from metacog.errors import ModelError
from metacog.model.card import CARD_NAME
from metacog.telemetry.rundir import RunDir

BUNDLED = {"nano": Path(__file__).parents[1] / "assets" / "nano"}
"""Models that come with the package, by name."""

_BASE_NAME = "config.json"


@dataclass(frozen=True)
class Place:
    """The directories of a base and of the layer that goes with it; they may be the same."""

    base: Path
    layer: Path


def resolve_model(name: str) -> Place:
    """Return where a model lies.

    A directory is a base (with a layer beside it or none), a run, of which `final` is taken, or a
    layer that a run saved, whose base is what the run's configuration names.

    Raises:
        ModelError: If there is no such directory, or it is none of these.
    """
    path = Path(name)
    if path.is_dir():
        return _place_of(path)
    if name in BUNDLED:
        return Place(BUNDLED[name], BUNDLED[name])
    raise ModelError(
        f"Wanted a bundled model ({', '.join(BUNDLED)}) or an existing directory, got {name!r}."
    )


def _place_of(path: Path) -> Place:
    final, around = path / "final", RunDir(path.absolute().parent)
    if (path / _BASE_NAME).is_file():
        return Place(path, path)
    if RunDir(path).config.is_file() and final.is_dir():
        return _place_of(final)
    if (path / CARD_NAME).is_file() and around.config.is_file():
        return Place(_base_of(around), path)
    raise ModelError(
        f"Wanted a base ({_BASE_NAME}), a run (config.yaml and final/) or a layer inside a run "
        f"({CARD_NAME}, and ../config.yaml for its base), found none of these in {path}. Name "
        "one; a layer that lies elsewhere goes with --layer beside its base."
    )


def _base_of(run: RunDir) -> Path:
    try:
        return resolve_model(run.load_config().model.path).base
    except ModelError as error:
        raise ModelError(f"{error} It is model.path in {run.config}.") from error
