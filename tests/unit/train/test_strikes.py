import math

import pytest

from metacog.config.run import TrainingConfig
from metacog.losses.combine import LossName
from metacog.train.strikes import Strike, Strikes, Traceable, examples_of

WEIGHTS = {LossName.ANSWER: 1.0, LossName.STYLE: 0.5}


def judged(strikes: Strikes, answer: float, *, style: float = 0.0, **found: float) -> Strike | None:
    metrics = {"train/loss_answer": answer, "train/loss_style": style}
    values = {"loss": answer + 0.5 * style, "norm": 1.0, **found}
    return strikes.judge(7, metrics, WEIGHTS, **values)


def used_to(config: TrainingConfig, size: float = 2.0) -> Strikes:
    strikes = Strikes(config)
    assert [judged(strikes, size) for _ in range(10)] == [None] * 10
    return strikes


@pytest.mark.parametrize(
    ("found", "what"),
    [({"loss": math.nan}, "finite loss"), ({"norm": math.inf}, "finite gradient")],
)
def test_what_is_no_number_is_a_strike_from_the_first_step_on(
    found: dict[str, float], what: str
) -> None:
    strike = judged(Strikes(TrainingConfig()), 1.0, **found)
    assert strike is not None
    assert f"Wanted a {what}, got NaN or infinity at step 7." in strike.message
    assert "strike 1 of 3 in a row" in strike.message
    assert not strike.is_last


def test_a_loss_far_beyond_the_usual_is_a_strike_once_the_usual_is_known() -> None:
    config = TrainingConfig(spike=100.0)
    assert judged(Strikes(config), 1e6) is None, "nothing is usual yet"
    strikes = used_to(config)
    assert judged(strikes, 199.0) is None
    strike = judged(strikes, 201.0)
    assert strike is not None
    assert "within 100 times the usual 2 (run.spike), got 201 at step 7" in strike.message
    assert judged(used_to(TrainingConfig(spike=None)), 1e30) is None


def test_losses_of_either_sign_do_not_cancel() -> None:
    strikes = Strikes(TrainingConfig())
    for _ in range(10):
        assert judged(strikes, 1.0, style=-2.0) is None
    assert judged(strikes, 3.0, style=-2.0) is None, "the sum is 0 and then 2: no spike of size 2"


def test_a_spike_does_not_become_the_usual() -> None:
    strikes = used_to(TrainingConfig(strikes=100))
    assert all(judged(strikes, 1e4) is not None for _ in range(60))


def test_so_many_in_a_row_are_the_last_and_a_sound_step_forgives() -> None:
    strikes = used_to(TrainingConfig(strikes=3))
    course = [math.nan, math.nan, 2.0, math.nan, math.nan, math.nan]
    found = [judged(strikes, value) for value in course]
    assert [None if s is None else s.is_last for s in found] == [
        False,
        False,
        None,
        False,
        False,
        True,
    ]
    assert found[-1] is not None
    assert "run.learning_rate" in found[-1].message
    assert "--resume" in found[-1].message


def test_what_is_known_goes_on_in_another_process() -> None:
    strikes = used_to(TrainingConfig(strikes=2))
    assert judged(strikes, math.nan) is not None
    again = Strikes(TrainingConfig(strikes=2))
    again.load_state(strikes.state())
    strike = judged(again, 1e4)
    assert strike is not None
    assert strike.is_last
    assert again.state() == {"in_a_row": 2, "sizes": [2.0] * 10}


class Named:
    def examples(self, batch: object) -> list[str]:
        return [f"{batch}-{number}" for number in range(5)]


def test_the_batch_is_named_and_what_has_no_names_is_left_alone() -> None:
    strike = Strike("It went wrong.", is_last=False)
    assert isinstance(Named(), Traceable)
    named = strike.of(examples_of(Named(), "q"))
    assert named == "It went wrong. Its batch: q-0, q-1, q-2 and 2 more."
    assert strike.of(examples_of(object(), "q")) == "It went wrong."
