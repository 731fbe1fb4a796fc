"""A base with the layer and gate that belong to it, as one thing to load, use and save."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metacog.config.decoding import DecodingConfig
from metacog.errors import ModelError
from metacog.model.adapter import load_adapted, write_merged
from metacog.model.base import Base, load_base
from metacog.model.calibration import CALIBRATION_NAME, CalibrationBlob
from metacog.model.card import CARD_NAME, BaseFingerprint, read_card
from metacog.model.familiarity import FAMILIARITY_NAME, Familiarity
from metacog.model.gate import FeedbackGate, GateShape
from metacog.model.learned import with_learned
from metacog.model.metacog import MetacogLayer
from metacog.model.places import ADAPTER_NAME, Place, is_adapter, is_whole, resolve_model
from metacog.model.reader import Reader
from metacog.model.shape import faults_of
from metacog.model.store import TENSORS_NAME, load_layer, save_layer
from metacog.telemetry.files import new_directory, write_json
from metacog.telemetry.manifest import is_checkpoint, verified

DECODING_NAME = "decoding.json"
"""How the model's replies are made, beside its layer."""

_GATE = "gate"
_BASE_FILES = frozenset({".json", ".safetensors", ".jinja", ".txt", ".model"})
_LAYER_FILES = frozenset(
    {CARD_NAME, TENSORS_NAME, CALIBRATION_NAME, FAMILIARITY_NAME, DECODING_NAME}
)


@dataclass(frozen=True)
class MetacogModel:
    """A base and, where there is one, its layer with calibration, and its gate."""

    base: Base
    reader: Reader | None = None
    gate: FeedbackGate | None = None
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    """How replies are made unless a request says otherwise."""

    def with_layer(
        self,
        layer: MetacogLayer,
        *,
        plans: tuple[str, ...],
        gate: FeedbackGate | None = None,
        calibration: CalibrationBlob | None = None,
        familiarity: Familiarity | None = None,
    ) -> "MetacogModel":
        """Return the same base with another layer and gate."""
        blob = calibration or CalibrationBlob.identity(layer)
        reader = Reader(layer, blob, plans=plans, familiarity=familiarity)
        return replace(self, reader=reader, gate=gate)

    def save(self, directory: Path) -> None:
        """Write base and layer as one directory, in full or not at all.

        The base's files are copied as they are, so that the layer goes on knowing them. An adapted
        base is written with the adapter in its weights, and the layer saved for those.

        Raises:
            RunError: If the directory exists.
        """
        with new_directory(directory) as filling:
            saved = self
            if is_whole(self.base.path) and not is_checkpoint(self.base.path):
                _copy_base(self.base.path, filling)
            else:
                saved = replace(self, base=write_merged(self.base, filling))
            if self.reader is not None:
                saved.save_layer(filling)

    def save_layer(self, directory: Path) -> None:
        """Write layer, gate and calibration beside or apart from the base.

        Raises:
            ModelError: If there is no layer.
        """
        if self.reader is None:
            raise ModelError("Wanted a model with a layer to save, got a bare base. Train one.")
        modules = {_GATE: self.gate} if self.gate is not None else {}
        settings = {_GATE: self.gate.shape.model_dump()} if self.gate is not None else {}
        save_layer(
            directory,
            self.reader.layer,
            plans=self.reader.plans,
            base=fingerprint(self.base),
            modules=modules,
            settings=settings,
            calibration=self.reader.calibration,
            familiarity=self.reader.familiarity,
        )
        write_json(directory / DECODING_NAME, self.decoding.model_dump(mode="json"))


def fingerprint(base: Base) -> BaseFingerprint:
    """Return what tells this base from another."""
    return BaseFingerprint(
        model_type=str(base.model.config.model_type),
        hidden_size=base.hidden,
        num_layers=len(base.blocks),
        vocab_size=base.vocabulary,
        weights_sha256=base.digest,
    )


def load_model(
    name: str | Path,
    *,
    layer: Path | None = None,
    base_path: str | Path | None = None,
    **options: Any,
) -> MetacogModel:
    """Load a base with the layer that goes with it, or with one from another directory.

    Args:
        name: Bundled name, directory of a base, of an adapter, of a run, or of a layer that a run
            saved, or id of a base on the hub.
        layer: Directory of the layer; by default the model's own, where it has one.
        base_path: Base of an adapter; by default the one that its run or its settings name.
        options: `precision` and `attention`, as `load_base` takes them.

    Raises:
        ModelError: If there is no such model.
        CheckpointError: If the layer is damaged or belongs to another base.
    """
    place = resolve_model(str(name))
    directory = layer or place.layer
    base = _base_at(place, directory, base_path, options)
    model = MetacogModel(base, decoding=_decoding(directory, place.base))
    if not (directory / CARD_NAME).is_file():
        if layer is not None:
            raise ModelError(
                f"Wanted a saved layer in {layer}, found no {CARD_NAME} there. Name a directory that "
                "a run saved, such as runs/layer/final."
            )
        return model
    settings = read_card(directory).modules.get(_GATE)
    gate = FeedbackGate(GateShape.model_validate(settings)) if settings is not None else None
    stored = load_layer(
        directory,
        base=fingerprint(model.base),
        modules={_GATE: gate} if gate is not None else {},
    )
    stored.layer.eval()
    if gate is not None:
        gate.eval()
    return model.with_layer(
        stored.layer,
        plans=stored.card.plans,
        gate=gate,
        calibration=stored.calibration,
        familiarity=stored.familiarity,
    )


def _base_at(
    place: Place, directory: Path, base_path: str | Path | None, options: dict[str, Any]
) -> Base:
    """Return the base at a place, with what of it the run has learned that saved the layer."""
    if is_checkpoint(directory):
        verified(directory)
    return with_learned(_base_as_given(place, base_path, options), directory)


def _base_as_given(place: Place, base_path: str | Path | None, options: dict[str, Any]) -> Base:
    if is_adapter(place.base):
        return load_adapted(place.base, base_path=base_path or place.base_path, **options)
    if base_path is not None:
        raise ModelError(
            f"Wanted an adapter ({ADAPTER_NAME}) to go with the base {base_path}, got the whole "
            f"model {place.base}. Leave out --base and model.base_path."
        )
    return load_base(place.base, **options)


def _copy_base(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.suffix in _BASE_FILES and file.name not in _LAYER_FILES:
            shutil.copyfile(file, target / file.name)


def _decoding(*directories: Path) -> DecodingConfig:
    """Return what the first of some directories says of decoding, or the defaults."""
    for directory in directories:
        path = directory / DECODING_NAME
        if path.is_file():
            try:
                return DecodingConfig.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise ModelError(
                    f"Wanted decoding settings in {path}, but {faults_of(error)}. "
                    "Correct the file or save the layer again."
                ) from error
    return DecodingConfig()
