"""What goes wrong while serving, and the one place where any error of the engine is caught."""

import logging
from collections.abc import Callable
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


def survives(work: Callable[[], None]) -> bool:
    """Run the engine's work and say whether it ended without an error.

    An error is logged by its type and place alone: its message may quote a prompt.
    """
    try:
        work()
    except Exception as error:  # noqa: BLE001  # allowed: whoever waits must be told, whatever it was
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        place = "" if last is None else f" at {last.tb_frame.f_code.co_qualname}:{last.tb_lineno}"
        LOG.error("the engine failed: %s%s", type(error).__name__, place)
        return False
    return True


def error_body(status: int, message: str, code: str, param: str | None = None) -> Data:
    """Return an error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
