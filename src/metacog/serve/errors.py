"""What goes wrong while serving, and the one place where any error is caught."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metacog.errors import InputError, RunError

LOG = logging.getLogger("metacog.serve")
Data = dict[str, Any]


class Busy(RunError):
    """As many requests wait as may.

    Args:
        message: What is said.
        seconds: After which there may be room.
    """

    def __init__(self, message: str, seconds: int = 1) -> None:
        super().__init__(message)
        self.seconds = seconds


class Broken(RunError):
    """The thread that owns the model has stopped, or says nothing any more."""


class Refused(InputError):
    """Another engine will not do what was planned."""


class Unreachable(RunError):
    """Another engine does not answer, or broke a reply off."""


@dataclass
class Outcome:
    """Of a block that may fail."""

    failed: bool = False


@contextmanager
def surviving(what: str) -> Iterator[Outcome]:
    """Run a block and say in the outcome whether it failed.

    An error is logged by its type and place alone: its message may quote a prompt.
    """
    outcome = Outcome()
    try:
        yield outcome
    except Exception as error:  # noqa: BLE001  # allowed: whoever waits must be told, whatever it was
        outcome.failed = True
        first = _first(error)
        LOG.error("%s failed: %s%s", what, type(first).__name__, _place(first))


def survives(work: Callable[[], None]) -> bool:
    """Run the engine's work and say whether it ended without an error."""
    with surviving("the engine") as outcome:
        work()
    return not outcome.failed


def _first(error: Exception) -> Exception:
    """Return the first error of a group: a stream's come in one."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _place(error: Exception) -> str:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return "" if last is None else f" at {last.tb_frame.f_code.co_qualname}:{last.tb_lineno}"


def error_body(status: int, message: str, code: str, param: str | None = None) -> Data:
    """Return an error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
