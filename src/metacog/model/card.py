"""The card of a saved layer: what it is, how to build it again, and whose states it reads."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metacog.errors import CheckpointError
from metacog.model.shape import LayerShape, faults_of

CARD_NAME = "metacog.json"
FORMAT_VERSION: Final = 2

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Setting = str | int | float | bool | None


class _Stored(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class BaseFingerprint(_Stored):
    """What tells one base from another."""

    model_type: str
    """Architecture, as the base's configuration names it."""
    hidden_size: int
    num_layers: int
    vocab_size: int
    weights_sha256: Sha256 | None = None
    """Digest of the base's weights; null where unknown, and then not compared."""

    def differences(self, other: "BaseFingerprint") -> str:
        """Return `key wanted, got` for all that differs from another base; empty for the same."""
        mine, theirs = self.model_dump(), other.model_dump()
        unknown = {key for key in mine if mine[key] is None or theirs[key] is None}
        return "; ".join(
            f"{key} wanted {mine[key]}, got {theirs[key]}"
            for key in mine
            if key not in unknown and mine[key] != theirs[key]
        )


class LayerCard(_Stored):
    """What `metacog.json` holds: how to build the modules again, and whose base they read."""

    format_version: Literal[2]
    shape: LayerShape
    plans: tuple[str, ...]
    """Names of the plans, in the order of the plan head's outputs."""
    base: BaseFingerprint
    modules: dict[str, dict[str, Setting]]
    """Settings of each module stored beside the layer, by its prefix."""
    tensors_sha256: Sha256
    """Digest of `metacog.safetensors`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "LayerCard":
        if len(self.plans) != self.shape.num_plans:
            raise ValueError(f"{self.shape.num_plans} plan names wanted, got {self.plans}")
        wanted = (self.shape.hidden, self.shape.num_layers)
        if (self.base.hidden_size, self.base.num_layers) != wanted:
            raise ValueError(
                f"a base {wanted[0]} wide with {wanted[1]} blocks wanted, got "
                f"{self.base.hidden_size} wide with {self.base.num_layers}"
            )
        return self


def read_card(directory: Path) -> LayerCard:
    """Return what a saved layer is, without its tensors.

    Raises:
        CheckpointError: If the card is missing, malformed or of another version.
    """
    path = directory / CARD_NAME
    try:
        return LayerCard.model_validate_json(read_file(path))
    except ValidationError as error:
        raise CheckpointError(
            f"Wanted a layer of format version {FORMAT_VERSION} in {path}, but {faults_of(error)}. "
            "Save it again with this version of metacog."
        ) from error


def read_file(path: Path) -> bytes:
    """Return the content of a saved layer's file.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"Wanted a saved layer with {path.absolute()}, got {error.strerror}. "
            "Name a directory that a run saved."
        ) from error
