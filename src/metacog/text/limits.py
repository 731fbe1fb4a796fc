"""Ends a chat template that runs on: its steps and what it writes are counted while it renders.

Jinja compiles a template to Python, so a trace function sees each of its lines and every piece that it
yields. Other code is not slowed: only frames of a template are followed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from metacog.errors import ModelError

_TEMPLATE = "<template>"
"""What Jinja calls the code of a template that came as a string."""
_MOST_STEPS = 150_000
_MOST_LETTERS = 4_000_000
_MOST_COPIES = 10


@contextmanager
def bounded_rendering(name: str, given: int) -> Iterator[None]:
    """Bound what templates may do inside the `with`, on this thread.

    Args:
        name: Of the tokenizer, for the message.
        given: Letters of the messages; a template may write each a few times over.

    Raises:
        ModelError: If a template takes too many steps, or makes too long a text.
    """
    before = sys.gettrace()
    sys.settrace(_Counter(name, _MOST_LETTERS + _MOST_COPIES * given).enter)
    try:
        yield
    finally:
        sys.settrace(before)


class _Counter:
    def __init__(self, name: str, letters: int) -> None:
        self.name, self.letters, self.steps = name, letters, _MOST_STEPS
        self.longest = letters

    def enter(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """Follow a frame that is a template's, and no other."""
        return self.follow if event == "call" and frame.f_code.co_filename == _TEMPLATE else None

    def follow(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Count a line, or a piece of text that was yielded or returned."""
        if event == "line":
            self.steps -= 1
            held = (len(value) for value in frame.f_locals.values() if isinstance(value, str))
            if self.steps < 0 or max(held, default=0) > self.longest:
                raise self._refused()
        elif event == "return" and isinstance(argument, str):
            self.letters -= len(argument)
            if self.letters < 0:
                raise self._refused()
        return self.follow

    def _refused(self) -> ModelError:
        return ModelError(
            f"Wanted a chat template that ends soon, but that of {self.name!r} was stopped after "
            f"{_MOST_STEPS - self.steps} steps: it loops for long or writes without end. Set another "
            "tokenizer.chat_template and save it again."
        )
