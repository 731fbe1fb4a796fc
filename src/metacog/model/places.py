"""Where a model lies: under a bundled name, in a directory of its own, or in a training run."""

from dataclasses import dataclass, replace
from pathlib import Path

from metacog.errors import ModelError
from metacog.model.card import CARD_NAME
from metacog.model.hub import cached, fetched, is_hub_id
from metacog.telemetry.rundir import RunDir

_ASSETS = Path(__file__).parents[1] / "assets"

BUNDLED = {name: _ASSETS / name for name in ("nano", "nano-adapted")}
"""Models that come with the package, by name."""

ADAPTER_NAME = "adapter_config.json"
"""What makes a directory a PEFT adapter."""

ADAPTER_DIRECTORY = "adapter"
"""Where a checkpoint keeps the adapter that its run has learned."""

DELTA_NAME = "base_delta.safetensors"
"""What of the base's own weights a checkpoint's run has learned."""

_BASE_NAME = "config.json"


@dataclass(frozen=True)
class Place:
    """The directories of a base and of the layer that goes with it; they may be the same."""

    base: Path
    layer: Path
    base_path: str | None = None
    """What a run's configuration names as the base of an adapter; None for the adapter's own."""


def resolve_model(name: str, *, may_fetch: bool = True) -> Place:
    """Return where a model lies.

    A directory is a base or an adapter (with a layer beside it or none), a run, of which `final` is
    taken, or a layer that a run saved, whose base is what the run's configuration names. A directory
    goes before a model of the hub, which is read where it is not here yet.

    Args:
        name: Of the model.
        may_fetch: Whether a user named it, which is the permission to read it from the hub; what a file
            names has to be here.

    Raises:
        ModelError: If there is no such directory, it is none of these, or the hub cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        return _place_of(path)
    if name in BUNDLED:
        return Place(BUNDLED[name], BUNDLED[name])
    if is_hub_id(name):
        found = fetched(name) if may_fetch else cached(name)
        if found is not None:
            return _place_of(found)
    raise ModelError(
        f"Wanted a bundled model ({', '.join(BUNDLED)}), an existing directory or a hub id such as "
        f"Qwen/Qwen3-0.6B, got {name!r}. Name one."
    )


def _place_of(path: Path) -> Place:
    final, around = path / "final", RunDir(path.absolute().parent)
    if (path / _BASE_NAME).is_file() or is_adapter(path):
        return Place(path, path)
    if RunDir(path).config.is_file() and final.is_dir():
        return _place_of(final)
    if (path / CARD_NAME).is_file() and around.config.is_file():
        named = _named_in(around)
        return Place(named.base, path, named.base_path)
    raise ModelError(
        f"Wanted a base ({_BASE_NAME}), a run (config.yaml and final/) or a layer inside a run "
        f"({CARD_NAME}, and ../config.yaml for its base), found none of these in {path}. Name "
        "one; a layer that lies elsewhere goes with --layer beside its base."
    )


def is_whole(path: Path) -> bool:
    """Say whether a directory holds all of a base, not only what was learned of one."""
    return (path / _BASE_NAME).is_file() and not is_adapter(path)


def is_adapter(path: Path) -> bool:
    """Say whether a directory holds a PEFT adapter, which needs a base from elsewhere."""
    return (path / ADAPTER_NAME).is_file()


def _named_in(run: RunDir) -> Place:
    """Return the model that a run started from."""
    model = run.load_config().model
    try:
        place = resolve_model(model.path, may_fetch=False)
    except ModelError as error:
        raise ModelError(f"{error} It is model.path in {run.config}.") from error
    return replace(place, base_path=model.base_path or place.base_path)
