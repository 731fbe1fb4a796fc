"""Everything that can go wrong at a boundary, and the exit code it ends with.

A message says what was wanted, what came, and what to do. Mistakes of the user exit with 2, failures
of a run with 1. `ValueError` stays for a wrong argument between our own functions.
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 130


class MetacogError(Exception):
    """Base of every error that the command line shows as a message instead of a traceback."""

    exit_code: int = EXIT_FAILED


class InputError(MetacogError):
    """What the user gave cannot be used: a recipe, a model, a data set, an argument."""

    exit_code = EXIT_BAD_INPUT


class ConfigError(InputError):
    """A recipe or an override is not a valid configuration."""


class DataError(InputError):
    """A data set has the wrong columns, too many malformed rows, or cannot be read."""


class ModelError(InputError):
    """A model cannot be found, read, or tapped."""


class TagError(ModelError):
    """A segment tag does not resolve in this tokenizer, or is absent from a text that needs it."""


class CalibrationError(ModelError):
    """A calibration blob is malformed, out of range, or about to be applied twice."""


class CheckpointError(InputError):
    """A checkpoint is incomplete, damaged, or belongs to another configuration."""


class RunError(MetacogError):
    """A run started well and failed: its directory, its numbers, its machine."""


class RunStopped(MetacogError):
    """A run ended before its last step because it was asked to; what it had learned is saved.

    It ends with 130, or where a signal asked with 128 and its number, as a shell would say: 130 for
    SIGINT, 143 for SIGTERM.
    """

    exit_code = EXIT_STOPPED

    def __init__(self, message: str, *, signal: int | None = None) -> None:
        super().__init__(message)
        if signal is not None:
            self.exit_code = 128 + signal


class SinkError(RunError):
    """A telemetry sink can no longer take events; training goes on without it."""


class BudgetExceeded(AssertionError):
    """A reply spent more thinking tokens than its budget: our own invariant is broken.

    It is not a `MetacogError`: no input may cause it, so it must end in a traceback.
    """
