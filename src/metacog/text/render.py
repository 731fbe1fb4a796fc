"""Turns messages into prompt ids that end where THINK has been opened.

What a person types is text, never control: an added token's name inside a message is encoded letter
by letter, so that only the template writes control tokens.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import encode_marked_chat, mark_control_tokens

from metacog.errors import InputError, ModelError
from metacog.text.resolve import resolve_tag
from metacog.text.tags import THINK
from metacog.text.template import rendered

ROLES = ("system", "developer", "user", "assistant", "tool")
_KEYS = frozenset({"role", "content", "name"})


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the prompt's ids, the opener of THINK last.

    The opener is appended where the template leaves it out; `template_opens_think` says so.

    Raises:
        InputError: If there is no message, the last one is blank, one has a role or a key that
            templates don't know, or text that is no Unicode, or a control token in one cannot be told
            from text.
        ModelError: If the tokenizer pads on the right, has no chat template, or one that tries
            what a template may not or runs on.
    """
    _check_tokenizer(tokenizer)
    _check_messages(messages)
    ids = _apply(tokenizer, messages)
    opener = resolve_tag(tokenizer, THINK).open
    return ids if _ends_open(tokenizer, ids, opener) else [*ids, *opener]


def template_opens_think(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether the chat template opens THINK itself; else `render` appends the opener."""
    _check_tokenizer(tokenizer)
    ids = _apply(tokenizer, [{"role": "user", "content": "?"}])
    return _ends_open(tokenizer, ids, resolve_tag(tokenizer, THINK).open)


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text in which no control token's name stands for the token.

    Raises:
        InputError: If it is no Unicode, or a control token in it cannot be told from text.
    """
    _check_text(text)
    control = _control_of(tokenizer)
    folded = unicodedata.normalize("NFKC", text)
    if not any(token in text or token in folded for token in control):
        return list(tokenizer.encode(text, add_special_tokens=False))
    return _unmarked(tokenizer, _marked(tokenizer, text))


def _control_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special or not token.content.isspace()]


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]) -> list[int]:
    marked = [
        {key: text if key == "role" else _marked(tokenizer, text) for key, text in message.items()}
        for message in messages
    ]
    return _unmarked(tokenizer, rendered(tokenizer, marked))


def _unmarked(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    try:
        return list(encode_marked_chat(tokenizer, text))
    except ValueError as error:
        raise InputError(
            f"Wanted text that the tokenizer {tokenizer.name_or_path!r} can encode, but: {error}. "
            "Word it differently."
        ) from error


def _marked(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return the text with marks around what would be a control token in it."""
    control = _control_of(tokenizer)
    longest_first = sorted(control, key=len, reverse=True)
    names = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
    return str(mark_control_tokens(_unfolded(text, control), names))


def _unfolded(text: str, control: Sequence[str]) -> str:
    """Return the text as a tokenizer's normaliser might see it, where that spells a control token."""
    folded = unicodedata.normalize("NFKC", text)
    hidden = any(folded.count(token) > text.count(token) for token in control)
    return folded if hidden else text


def _ends_open(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], opener: tuple[int, ...]
) -> bool:
    """Say whether nothing but white space follows an opener at the end of the ids."""
    end = len(ids)
    while end > 0 and not str(tokenizer.decode([ids[end - 1]])).strip():
        end -= 1
    return tuple(ids[max(0, end - len(opener)) : end]) == opener


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.padding_side != "left":
        raise ModelError(
            f"Wanted a tokenizer with padding_side 'left', got {tokenizer.padding_side!r}. "
            "Set tokenizer.padding_side = 'left' and save it again."
        )
    if tokenizer.chat_template is None:
        raise ModelError(
            f"Wanted a tokenizer with a chat template, got {tokenizer.name_or_path!r} without one. "
            "Use an instruction-tuned model, or set tokenizer.chat_template."
        )


def _check_text(text: str) -> None:
    """Refuse half of a surrogate pair: JSON can write one, but no encoding of Unicode can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Wanted text in Unicode, got half of a surrogate pair at letter {error.start}. Leave it out."
        ) from error


def _check_messages(messages: Sequence[Mapping[str, str]]) -> None:
    for message in messages:
        for text in message.values():
            _check_text(text)
        if not {"role", "content"} <= message.keys() <= _KEYS:
            raise InputError(
                "Wanted messages with the keys role and content, and name if need be, got "
                f"{', '.join(sorted(message)) or 'none'}. Name the keys so."
            )
        if message["role"] not in ROLES:
            raise InputError(
                f"Wanted a role among {', '.join(ROLES)}, got {message['role']!r}. Use one of them."
            )
    if not messages or not messages[-1]["content"].strip():
        raise InputError("Wanted a prompt, got an empty one. Write a question.")
