"""The base of every section and the number types its fields are made of.

PyYAML reads `1e-5` and `1e9` as text, and a form sends text too, so numbers are also accepted as the
text of a number. A yes/no value never counts as a number, nor a number as yes or no.
"""

from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict

_MAX_DIGITS = 308
"""Decimal digits of the largest accepted count: what a float can hold, so `1e9999` is a mistake."""


class Config(BaseModel):
    """Base of every config: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def whole_number(value: object) -> int:
    """Return the whole number that `value` is or spells, exactly.

    Raises:
        ValueError: If it is a yes/no value, has a fraction, is not finite, or is no number.
    """
    if isinstance(value, bool):
        raise ValueError("wanted a whole number, not a yes/no value")
    if isinstance(value, int):
        return value
    if not isinstance(value, float | str):
        raise ValueError("wanted a whole number")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("wanted a whole number") from None
    if not number.is_finite() or number.adjusted() > _MAX_DIGITS:
        raise ValueError("wanted a finite whole number")
    if number != number.to_integral_value():
        raise ValueError("wanted a whole number, without a fraction")
    return int(number)


def real_number(value: object) -> float:
    """Return the number that `value` is or spells.

    Raises:
        ValueError: If it is a yes/no value or no number. Infinity is refused by the schema.
    """
    if isinstance(value, bool):
        raise ValueError("wanted a number, not a yes/no value")
    if not isinstance(value, int | float | str):
        raise ValueError("wanted a number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError("wanted a number") from None


Flag = Annotated[bool, Strict()]
"""Yes or no; never 0 or 1."""

# Bounds stand before the conversion, so that they reach the JSON Schema.
Count = Annotated[int, Field(ge=0), BeforeValidator(whole_number)]
"""How many, without an upper bound."""

PositiveCount = Annotated[int, Field(ge=1), BeforeValidator(whole_number)]
"""How many, at least one, without an upper bound."""


Weight = Annotated[float, Field(ge=0), BeforeValidator(real_number)]
"""A factor that is zero or more; zero switches its term off."""

PositiveReal = Annotated[float, Field(gt=0), BeforeValidator(real_number)]
"""A finite number above zero."""

Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(real_number)]
"""A part of a whole, from 0 to 1."""

PositiveShare = Annotated[float, Field(gt=0, le=1), BeforeValidator(real_number)]
"""A part of a whole, above 0 and at most 1."""

InnerShare = Annotated[float, Field(gt=0, lt=1), BeforeValidator(real_number)]
"""A part of a whole that is neither nothing nor all."""

Lean = Annotated[float, Field(ge=-1, le=1), BeforeValidator(real_number)]
"""A direction and how far, from -1 to 1."""

Name = Annotated[str, Field(min_length=1)]
"""Text that may not be empty."""
