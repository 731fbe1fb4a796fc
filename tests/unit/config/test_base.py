import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metacog.config.base import Config, Count, Flag, Weight, real_number, whole_number


class Sample(Config):
    """A config with one field of each kind."""

    count: Count = 0
    """A count."""

    real: Weight = 0.0
    """A number."""

    flag: Flag = False
    """Yes or no."""


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (1_000_000_000, 10**9),
        (1e9, 10**9),
        ("1e9", 10**9),
        ("1_000_000_000", 10**9),
        (" 12 ", 12),
        ("2.50e1", 25),
        (1e23, 10**23),
        (10**30, 10**30),
        ("0", 0),
    ],
)
def test_a_count_is_accepted_however_it_is_written(given: object, value: int) -> None:
    count = Sample(count=given).count
    assert count == value
    assert type(count) is int


@pytest.mark.parametrize(
    "given",
    [
        1.5,
        "1.5",
        "1e-1",
        math.nan,
        math.inf,
        "nan",
        "inf",
        True,
        False,
        None,
        "",
        "ten",
        -1,
        "1e9999",
        [3],
    ],
)
def test_a_count_refuses_what_is_no_count(given: object) -> None:
    with pytest.raises(ValidationError):
        Sample(count=given)


@settings(deadline=None, max_examples=50)
@given(st.integers(min_value=0, max_value=10**40))
def test_a_count_keeps_every_digit_of_its_text(number: int) -> None:
    assert whole_number(str(number)) == number
    assert whole_number(f"{number:_}") == number


@pytest.mark.parametrize(
    ("given", "value"), [("1e-5", 0.00001), ("0.25", 0.25), (3, 3.0), (1.5, 1.5), ("1_0.5", 10.5)]
)
def test_a_number_is_accepted_however_it_is_written(given: object, value: float) -> None:
    assert Sample(real=given).real == value


@pytest.mark.parametrize(
    "given", [True, -0.5, "nan", math.nan, math.inf, "-inf", "1e999", 10**400, None, "five", [1.0]]
)
def test_a_number_must_be_a_finite_number(given: object) -> None:
    with pytest.raises(ValidationError):
        Sample(real=given)


@pytest.mark.parametrize("given", [0, 1, "yes", "true", None])
def test_a_flag_is_yes_or_no_and_nothing_else(given: object) -> None:
    with pytest.raises(ValidationError):
        Sample(flag=given)


def test_a_config_cannot_be_changed_or_extended() -> None:
    sample = Sample()
    with pytest.raises(ValidationError):
        sample.count = 3
    with pytest.raises(ValidationError):
        Sample(cuont=3)


def test_the_text_below_a_field_is_its_description() -> None:
    assert Sample.model_fields["count"].description == "A count."


def test_the_messages_say_what_was_wanted() -> None:
    with pytest.raises(ValueError, match="without a fraction"):
        whole_number(1.5)
    with pytest.raises(ValueError, match="not a yes/no value"):
        real_number(True)
