"""The two shapes of a reply on the wire: of a conversation, and of a text that goes on."""

from typing import Any, Protocol, runtime_checkable

Data = dict[str, Any]


@runtime_checkable
class Shape(Protocol):
    """How one kind of endpoint writes replies and parts of them."""

    prefix: str
    whole: str
    chunk: str

    def choice(self, thinking: str | None, answer: str) -> Data:
        """Return a whole reply; thinking is None where it is hidden."""

    def first(self) -> Data | None:
        """Return what a stream of a reply begins with, or None for nothing."""

    def delta(self, thinking: str, answer: str) -> Data:
        """Return what a reply has grown by."""


class ChatShape:
    """`/v1/chat/completions`."""

    prefix, whole, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def choice(self, thinking: str | None, answer: str) -> Data:
        """Return the message of the assistant."""
        return {"message": {"role": "assistant", "content": answer, **_both(thinking)}}

    def first(self) -> Data | None:
        """Return the role."""
        return {"delta": {"role": "assistant", "content": ""}}

    def delta(self, thinking: str, answer: str) -> Data:
        """Return a delta that holds what there is."""
        said = {"content": answer} if answer else {}
        return {"delta": said | (_both(thinking) if thinking else {})}


class TextShape:
    """`/v1/completions`."""

    prefix, whole, chunk = "cmpl-", "text_completion", "text_completion"

    def choice(self, thinking: str | None, answer: str) -> Data:
        """Return the answer as text, the thinking beside it."""
        return {"text": answer, **_both(thinking)}

    def first(self) -> Data | None:
        """Return nothing: there is no role."""
        return None

    def delta(self, thinking: str, answer: str) -> Data:
        """Return the text that came, the thinking beside it."""
        return {"text": answer, **(_both(thinking) if thinking else {})}


def _both(thinking: str | None) -> Data:
    """Return thinking under the two names that clients look for."""
    return {} if thinking is None else {"reasoning": thinking, "reasoning_content": thinking}
