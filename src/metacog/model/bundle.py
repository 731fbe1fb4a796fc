"""A base with the layer and gate that belong to it, as one thing to load, use and save."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metacog.config.decoding import DecodingConfig
from metacog.errors import ModelError
from metacog.model.base import Base, load_base
from metacog.model.calibration import CALIBRATION_NAME, CalibrationBlob
from metacog.model.card import CARD_NAME, BaseFingerprint, read_card
from metacog.model.gate import FeedbackGate, GateShape
from metacog.model.metacog import MetacogLayer
from metacog.model.places import resolve_model
from metacog.model.reader import Reader
from metacog.model.shape import faults_of
from metacog.model.store import TENSORS_NAME, load_layer, save_layer
from metacog.telemetry.files import new_directory, write_json

DECODING_NAME = "decoding.json"
"""How the model's replies are made, beside its layer."""

_GATE = "gate"
_BASE_FILES = frozenset({".json", ".safetensors", ".jinja", ".txt", ".model"})
_LAYER_FILES = frozenset({CARD_NAME, TENSORS_NAME, CALIBRATION_NAME, DECODING_NAME})


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
    ) -> "MetacogModel":
        """Return the same base with another layer and gate."""
        blob = calibration or CalibrationBlob.identity(layer)
        return replace(self, reader=Reader(layer, blob, plans=plans), gate=gate)

    def save(self, directory: Path) -> None:
        """Write base and layer as one directory, in full or not at all.

        The base's files are copied as they are, so that the layer goes on knowing them.

        Raises:
            RunError: If the directory exists.
        """
        with new_directory(directory) as filling:
            for file in sorted(self.base.path.iterdir()):
                if file.suffix in _BASE_FILES and file.name not in _LAYER_FILES:
                    shutil.copyfile(file, filling / file.name)
            if self.reader is not None:
                self.save_layer(filling)

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


def load_model(name: str | Path, *, layer: Path | None = None, **options: Any) -> MetacogModel:
    """Load a base with the layer that goes with it, or with one from another directory.

    Args:
        name: Bundled name, or directory of a base, of a run, or of a layer that a run saved.
        layer: Directory of the layer; by default the model's own, where it has one.
        options: `precision` and `attention`, as `load_base` takes them.

    Raises:
        ModelError: If there is no such model.
        CheckpointError: If the layer is damaged or belongs to another base.
    """
    place = resolve_model(str(name))
    directory = layer or place.layer
    base = load_base(place.base, **options)
    model = MetacogModel(base, decoding=_decoding(directory, place.base))
    if not (directory / CARD_NAME).is_file():
        if layer is not None:
            raise ModelError(f"Wanted a saved layer in {layer}, found no {CARD_NAME}.")
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
        stored.layer, plans=stored.card.plans, gate=gate, calibration=stored.calibration
    )


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
