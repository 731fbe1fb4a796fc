"""What a measurement refuses before it begins, and which questions it matches baselines on."""

import pytest
from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.cli.measure import Size
from metacog.data.tasks.families import FAMILIES
from metacog.errors import InputError


def test_fewer_questions_to_match_on_than_families_are_refused() -> None:
    assert Size(matching=2, families=("gcd", "ab")).matching == 2
    with pytest.raises(InputError, match=r"at least 2 questions to match on, got 1.*--matching"):
        Size(matching=1, families=("gcd", "ab"))


def test_it_is_refused_before_a_model_is_looked_for() -> None:
    result = CliRunner().invoke(app, ["eval", "nonesuch", "--matching", "3"])
    assert result.exit_code == 2
    assert f"at least {len(FAMILIES)} questions to match on, got 3" in result.stderr


def test_the_demonstration_refuses_it_before_it_trains() -> None:
    result = CliRunner().invoke(app, ["demo", "--recipe", "nonesuch.yaml", "--n", "3"])
    assert result.exit_code == 2
    assert f"at least {len(FAMILIES)} questions to match on, got 3" in result.stderr
