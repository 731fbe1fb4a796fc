"""What a metacognitive layer is built from: plain numbers, frozen, and checked when read."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ScaleKind = Literal["linear", "log"]
Aggregation = Literal["attn", "mean"]


class LayerShape(BaseModel):
    """Sizes and choices that fix every tensor of a `MetacogLayer`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    hidden: int = Field(ge=1)
    """Width H of the base's hidden states."""

    num_layers: int = Field(ge=1)
    """Decoder blocks L of the base."""

    proj_dim: int = Field(default=64, ge=1)
    """Width D of the trunk's projection."""

    num_plans: int = Field(default=4, ge=1)
    """Plans K."""

    agg: Aggregation = "attn"
    """How blocks are weighed: learned attention, or all alike."""

    linked_all_layers: bool = True
    """Read every block; false reads the last one only."""

    budget_min: int = Field(default=8, ge=0)
    """Smallest budget that can be predicted, in tokens."""

    budget_max: int = Field(default=512, ge=1)
    """Largest budget that can be predicted, in tokens."""

    budget_scale: ScaleKind = "linear"
    """How the budget head interpolates between the two."""

    reread_hidden: int | None = Field(default=None, ge=1)
    """Inner width of the heads of re-readings; null takes `proj_dim`."""

    @model_validator(mode="after")
    def _range_is_open(self) -> "LayerShape":
        if self.budget_min >= self.budget_max:
            raise ValueError(
                f"budget_min wanted less than budget_max ({self.budget_max}), "
                f"got {self.budget_min}; lower one or raise the other"
            )
        if self.budget_scale == "log" and self.budget_min < 1:
            raise ValueError("a log budget_scale wanted a budget_min of at least 1, got 0")
        return self

    @property
    def blocks(self) -> tuple[int, ...]:
        """Indices of the blocks that are read, first to last; each has an expert of its own."""
        first = 0 if self.linked_all_layers else self.num_layers - 1
        return tuple(range(first, self.num_layers))


def faults_of(error: ValidationError) -> str:
    """Return what is wrong with a file, each fault with its key and the value that came."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}{_came(fault['input'])}"
        for fault in error.errors(include_url=False)
    )


def _came(value: object) -> str:
    return f" (got {value!r})" if isinstance(value, str | int | float) else ""
