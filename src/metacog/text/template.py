"""Renders chat templates. They come with models, so a stranger's runs in a process of its own.

transformers' sandbox keeps templates from Python's attributes but bounds neither time nor memory, and
what a template does in one call cannot be ended from outside. So the system bounds the process.
"""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from metacog.errors import InputError, ModelError
from metacog.text.template_child import Asked, written
from metacog.text.template_process import template_process
from metacog.text.tokenizer import CHAT_TEMPLATE

_KNOWN = frozenset({CHAT_TEMPLATE})
"""Templates of our own, which are rendered right here."""
_MOST_BYTES = 100_000
_MOST_LETTERS = 4_000_000
_MOST_COPIES = 10
_GREETING = [{"role": "user", "content": "Hi"}]


def require_bounded_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose chat template takes too much already for a greeting.

    One that does not know what to do with a greeting is no fault, and none at all is for `render` to
    refuse. Messages are rendered under the same limits later.

    Raises:
        ModelError: If the template is stopped, cannot be read or tries what the sandbox forbids.
    """
    if tokenizer.chat_template is not None:
        said = _said(tokenizer, _GREETING)
        if said.get("fault", "failed") != "failed":
            raise _error(said, tokenizer.name_or_path)


def rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]) -> str:
    """Return what the tokenizer's template writes for messages that wait for a reply.

    Raises:
        InputError: If the template cannot render these messages.
        ModelError: If it is stopped, cannot be read or tries what the sandbox forbids.
    """
    said = _said(tokenizer, messages)
    if "fault" in said:
        raise _error(said, tokenizer.name_or_path)
    return said["text"]


def _said(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]
) -> dict[str, str]:
    """Return the text, or a fault with its message."""
    template = _template_of(tokenizer)
    if len(template.encode(errors="replace")) > _MOST_BYTES:
        return {"fault": "stopped", "message": f"it is longer than {_MOST_BYTES} bytes"}
    given = sum(len(value) for message in messages for value in message.values())
    asked = Asked(
        template=template,
        messages=[dict(message) for message in messages],
        special=dict(tokenizer.special_tokens_map),
        most_letters=_MOST_LETTERS + _MOST_COPIES * given,
    )
    if template in _KNOWN:
        return {"text": written(asked)}
    return template_process().answer(asked)


def _template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise ModelError(
            f"Wanted a tokenizer with one chat template, or one that is called default, in "
            f"{tokenizer.name_or_path!r}: {error}"
        ) from error


def _error(said: Mapping[str, str], name: str) -> InputError:
    """Return the error of a rendering, by the kind of its fault."""
    fault, message = said["fault"], said["message"]
    remedy = "Set another tokenizer.chat_template and save it again."
    match fault:
        case "forbidden":
            return ModelError(
                f"Wanted a chat template that renders messages, but that of {name!r} tried what the "
                f"sandbox forbids: {message}. {remedy}"
            )
        case "unreadable":
            return ModelError(
                f"Wanted a chat template, but that of {name!r} cannot be read: {message}. {remedy}"
            )
        case "stopped":
            return ModelError(
                f"Wanted a chat template that ends soon, but that of {name!r} was stopped: {message}. "
                f"{remedy}"
            )
        case _:
            return InputError(
                f"Wanted messages that the tokenizer {name!r} can render, but: {message}. "
                "Word them differently."
            )
