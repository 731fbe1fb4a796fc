"""Examples as token ids, in the segments that training and serving know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metacog.data.schema import MalformedRow
from metacog.errors import InputError, ModelError
from metacog.records import Example, RowFault
from metacog.text.render import encode_plain, render
from metacog.text.resolve import Tokenizer


@dataclass(frozen=True)
class EncodedExample:
    """An example and its ids; the prompt ends with THINK opened, the answer with the end of reply."""

    example: Example
    prompt: tuple[int, ...]
    think: tuple[int, ...]
    answer: tuple[int, ...]
    length: int
    """Tokens of prompt, THINK, closer and answer together."""


class Encoder:
    """Turns examples into ids; what a row says is text, also where it spells a control token.

    Args:
        tokenizer: The base's; pass a copy where another thread uses it, too.
        closer: Ids that close THINK.
        context: Tokens that the model was made for; longer examples are malformed.
    """

    def __init__(self, tokenizer: Tokenizer, *, closer: tuple[int, ...], context: int) -> None:
        self.tokenizer, self.closer, self.context = tokenizer, closer, context

    def encode(self, example: Example) -> EncodedExample:
        """Return an example's ids.

        Raises:
            MalformedRow: If the template refuses it, the tokenizer lacks tokens for it, or it is
                longer than the context.
            ModelError: If the tokenizer or its template is at fault, not the row.
        """
        try:
            prompt, thought, answer = self._parts(example)
        except ModelError:
            raise
        except InputError as error:
            raise MalformedRow(RowFault.UNRENDERABLE) from error
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in (*thought, *answer, *prompt):
            raise MalformedRow(RowFault.UNENCODABLE)
        answer.append(int(self.tokenizer.eos_token_id))
        length = len(prompt) + len(thought) + len(self.closer) + len(answer)
        if length > self.context:
            raise MalformedRow(RowFault.TOO_LONG)
        return EncodedExample(example, tuple(prompt), tuple(thought), tuple(answer), length)

    def raw_length(self, values: Mapping[str, Any]) -> int:
        """Return the tokens of all text in a row, whether it is well-formed or not."""
        return sum(map(self._count, _texts(values)))

    def _count(self, text: str) -> int:
        try:
            return len(encode_plain(self.tokenizer, text))
        except InputError:  # such a row is quarantined, and has a length all the same
            return len(self.tokenizer.encode(text, add_special_tokens=False))

    def _parts(self, example: Example) -> tuple[list[int], list[int], list[int]]:
        messages = [{"role": m.role, "content": m.content} for m in example.messages]
        prompt = render(self.tokenizer, messages)
        opens_with_space = not str(self.tokenizer.decode(prompt[-1:])).strip()
        think = example.think.lstrip() if opens_with_space else example.think
        answer = example.answer.rstrip()
        return prompt, encode_plain(self.tokenizer, think), encode_plain(self.tokenizer, answer)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value.encode("utf-8", "replace").decode()]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _texts(part)]
    return [text for part in value for text in _texts(part)] if isinstance(value, list) else []
