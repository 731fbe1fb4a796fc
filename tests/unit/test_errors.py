import pytest

from metacog import errors


def leaves(root: type) -> set[type]:
    below = root.__subclasses__()
    return {root}.union(*(leaves(child) for child in below))


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.ConfigError, 2),
        (errors.DataError, 2),
        (errors.ModelError, 2),
        (errors.TagError, 2),
        (errors.CalibrationError, 2),
        (errors.CheckpointError, 2),
        (errors.RunError, 1),
        (errors.SinkError, 1),
        (errors.MetacogError, 1),
        (errors.RunStopped, 130),
    ],
)
def test_mistakes_of_the_user_exit_with_2_and_failures_with_1(
    error: type[errors.MetacogError], exit_code: int
) -> None:
    assert error.exit_code == exit_code


def test_every_error_is_bad_input_or_a_failed_run_or_a_stop() -> None:
    below = leaves(errors.MetacogError) - {errors.MetacogError}
    kinds = errors.InputError | errors.RunError | errors.RunStopped
    assert all(issubclass(error, kinds) for error in below)


def test_an_exceeded_budget_is_no_message_for_the_user() -> None:
    assert issubclass(errors.BudgetExceeded, AssertionError)
    assert not issubclass(errors.BudgetExceeded, errors.MetacogError)
