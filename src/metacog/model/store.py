"""The layer on disk: tensors, a card that says what they are, and the calibration beside them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialise_tensors
from torch import Tensor, nn

from metacog.errors import CheckpointError
from metacog.model import calibration as calibrations
from metacog.model.calibration import CalibrationBlob, load_calibration, save_calibration
from metacog.model.card import (
    CARD_NAME,
    FORMAT_VERSION,
    BaseFingerprint,
    LayerCard,
    Setting,
    read_card,
    read_file,
)
from metacog.model.familiarity import (
    FAMILIARITY_NAME,
    Familiarity,
    load_familiarity,
    save_familiarity,
)
from metacog.model.metacog import MetacogLayer
from metacog.telemetry.files import write_bytes, write_json

TENSORS_NAME = "metacog.safetensors"
LAYER = "layer"
"""Prefix of the layer's own tensors; other modules have theirs, such as `gate`."""


@dataclass(frozen=True)
class StoredLayer:
    """A layer as it was saved."""

    layer: MetacogLayer
    card: LayerCard
    calibration: CalibrationBlob | None
    """None where the layer was never calibrated, or the calibration was left out."""
    familiarity: Familiarity | None = None
    """None where it was never fitted, or the calibration was left out."""


def save_layer(
    directory: Path,
    layer: MetacogLayer,
    *,
    plans: Sequence[str],
    base: BaseFingerprint,
    modules: Mapping[str, nn.Module] | None = None,
    settings: Mapping[str, Mapping[str, Setting]] | None = None,
    calibration: CalibrationBlob | None = None,
    familiarity: Familiarity | None = None,
) -> None:
    """Write layer, modules beside it and calibration, each file in full or not at all.

    The card goes last and names the tensors' digest, so that a torn save is seen when loading. To
    replace a whole directory at once, fill a temporary one: see `telemetry.files.new_directory`.

    Args:
        directory: Where `metacog.safetensors`, `metacog.json` and `calibration.json` go.
        layer: The layer, of any shape.
        plans: Names of its plans.
        base: The base it was trained on.
        modules: What is stored beside it by prefix, such as `gate`.
        settings: What it takes to build each of `modules` again.
        calibration: The blob that was fitted to this layer; without one an older file goes.
        familiarity: Of the calibration's prompts; without one an older file goes.

    Raises:
        CheckpointError: If a tensor is not finite; then nothing is written.
        CalibrationError: If the calibration belongs to another layer.
    """
    beside, known = dict(modules or {}), dict(settings or {})
    if LAYER in beside or known.keys() - beside.keys():
        raise ValueError(
            f"A save wanted modules named otherwise than {LAYER!r}, and settings of those alone; "
            f"got modules {sorted(beside)} and settings of {sorted(known)}."
        )
    if calibration is not None:
        calibration.require(layer)
    tensors = _tensors_of({LAYER: layer, **beside})
    _require_finite(tensors, directory)
    content = serialise_tensors(tensors)
    card = LayerCard(
        format_version=FORMAT_VERSION,
        shape=layer.shape,
        plans=tuple(plans),
        base=base,
        modules={name: dict(known.get(name, {})) for name in sorted(beside)},
        tensors_sha256=sha256(content).hexdigest(),
    )
    blob_path = directory / calibrations.CALIBRATION_NAME
    write_bytes(directory / TENSORS_NAME, content)
    if calibration is None:
        blob_path.unlink(missing_ok=True)
    else:
        save_calibration(blob_path, calibration)
    _save_familiarity(directory / FAMILIARITY_NAME, familiarity, base.weights_sha256)
    write_json(directory / CARD_NAME, card.model_dump(mode="json"))


def _save_familiarity(path: Path, familiarity: Familiarity | None, base: str | None) -> None:
    if familiarity is None or base is None:
        path.unlink(missing_ok=True)
    else:
        save_familiarity(path, familiarity, base_sha256=base)


def load_layer(
    directory: Path,
    *,
    base: BaseFingerprint,
    modules: Mapping[str, nn.Module] | None = None,
    without: Collection[str] = (),
    calibrated: bool = True,
) -> StoredLayer:
    """Return a saved layer, and fill `modules` with what was stored beside it.

    Args:
        directory: Where `save_layer` wrote.
        base: The base that the layer is to read.
        modules: Modules to fill by prefix, built after `read_card(directory).modules`.
        without: Stored modules to leave out.
        calibrated: Whether to read the calibration; false where it is about to be made anew.

    Raises:
        CheckpointError: If a file is missing or damaged, or the layer was saved for another base
            or other modules, or a tensor is missing, unexpected, mis-shaped or not finite.
        CalibrationError: If the calibration is malformed or belongs to another layer, or what tells
            familiar prompts to another base.
    """
    card = read_card(directory)
    differences = card.base.differences(base)
    if differences:
        raise CheckpointError(
            f"The layer in {directory} was saved for another base: {differences}. "
            "Load it with the base it was trained on."
        )
    with torch.random.fork_rng(devices=[]):
        layer = MetacogLayer(card.shape)
    _fill({LAYER: layer, **(modules or {})}, _read_tensors(directory, card), directory, without)
    blob_path = directory / calibrations.CALIBRATION_NAME
    blob = load_calibration(blob_path) if calibrated and blob_path.exists() else None
    if blob is not None:
        blob.require(layer)
    return StoredLayer(layer, card, blob, _familiarity(directory, base) if calibrated else None)


def _familiarity(directory: Path, base: BaseFingerprint) -> Familiarity | None:
    path = directory / FAMILIARITY_NAME
    if base.weights_sha256 is None or not path.exists():
        return None
    shape = (base.num_layers, base.hidden_size)
    return load_familiarity(path, base_sha256=base.weights_sha256, shape=shape)


def _fill(
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    directory: Path,
    without: Collection[str],
) -> None:
    """Copy tensors into modules after checking that they match one to one."""
    kept = {name: value for name, value in tensors.items() if name.split(".")[0] not in without}
    wanted = _tensors_of(modules)
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - kept.keys())]
    faults += [f"{name} is not expected" for name in sorted(kept.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & kept.keys()):
        want, got = _kind(wanted[name]), _kind(kept[name])
        if want != got:
            faults.append(f"{name} wanted {want}, got {got}")
    if faults:
        raise CheckpointError(
            f"The tensors in {directory / TENSORS_NAME} do not fit: {'; '.join(faults)}. "
            "Build the modules as the card says, or name those to leave in `without`."
        )
    _require_finite(kept, directory)
    for prefix, module in modules.items():
        own = {
            name.removeprefix(f"{prefix}."): value
            for name, value in kept.items()
            if name.startswith(f"{prefix}.")
        }
        module.load_state_dict(own, strict=True)


def _read_tensors(directory: Path, card: LayerCard) -> dict[str, Tensor]:
    path = directory / TENSORS_NAME
    content = read_file(path)
    digest = sha256(content).hexdigest()
    if digest != card.tensors_sha256:
        raise CheckpointError(
            f"Wanted {path} with sha256 {card.tensors_sha256}, got {digest}. "
            "The file is damaged or a save was cut short: use another checkpoint."
        )
    try:
        return parse_tensors(content)
    except SafetensorError as error:
        raise CheckpointError(
            f"Wanted tensors in {path}, but {error}. Use another checkpoint."
        ) from error


def _tensors_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _require_finite(tensors: Mapping[str, Tensor], directory: Path) -> None:
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CheckpointError(
            f"Wanted finite numbers in {directory / TENSORS_NAME}, got NaN or infinity in "
            f"{', '.join(broken)}. Use a checkpoint from before the run diverged."
        )


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
