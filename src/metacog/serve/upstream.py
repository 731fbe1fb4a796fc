"""What another engine sends, checked: chunks of a stream, and refusals."""

from typing import Annotated, Any

from httpx import Response
from pydantic import BaseModel, Field, StrictInt, ValidationError

from metacog.serve.errors import Busy, Refused, Unreachable

_Token = Annotated[StrictInt, Field(ge=0, lt=2**31)]
_LONGEST_WAIT = 3600
"""Most seconds of an engine's Retry-After that are passed on."""


class Delta(BaseModel):
    """What a conversation's reply has grown by; each engine has its own name for thinking."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @property
    def thinking(self) -> str:
        """Return what was thought."""
        return self.reasoning_content or self.reasoning or ""


class Choice(BaseModel):
    """One choice of a chunk, as far as it is looked at."""

    text: str | None = None
    token_ids: list[_Token] | None = None
    delta: Delta | None = None
    finish_reason: str | None = None


class _Chunk(BaseModel):
    choices: list[Choice] | None = None
    error: Any = None


def choices_in(line: str) -> list[Choice]:
    """Return the choices that a line of a stream holds.

    Raises:
        Unreachable: If it is no chunk of a completion, or says that the reply broke off.
    """
    said = line.removeprefix("data:").strip()
    if not line.startswith("data:") or said == "[DONE]":
        return []
    try:
        chunk = _Chunk.model_validate_json(said)
    except ValidationError as error:
        raise Unreachable(
            f"Wanted chunks of a completion of the engine, got {said[:80]!r}. Look at what --upstream "
            "and --engine name."
        ) from error
    if chunk.error is not None:
        raise Unreachable(f"The engine broke the reply off: {str(chunk.error)[:300]}")
    return chunk.choices or []


def refusal(reply: Response) -> Busy | Refused | Unreachable:
    """Return what an answer other than 200 means here; its body must have been read."""
    status, said = reply.status_code, reply.content[:500].decode(errors="replace")
    if status == 429:
        return Busy("The engine has no room now. Try later.", _wait(reply))
    if status in (400, 422):
        return Refused(f"The engine refused what was planned ({status}): {said}")
    if status in (401, 403):  # its words may quote the key
        return Unreachable(
            f"The engine does not take this proxy's key ({status}). Set METACOG_UPSTREAM_KEY."
        )
    return Unreachable(f"The engine failed ({status}): {said}")


def _wait(reply: Response) -> int:
    """Return the seconds that a busy engine names, 1 where it names a date or nothing."""
    said = reply.headers.get("Retry-After", "")
    return min(int(said), _LONGEST_WAIT) if said.isdecimal() and len(said) < 9 else 1
