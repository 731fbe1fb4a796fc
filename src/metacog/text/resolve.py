"""Where the segment tags lie in a tokenizer's vocabulary."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from transformers import PreTrainedTokenizerBase

from metacog.errors import TagError
from metacog.text.tags import TAGS, THINK, Tag

Tokenizer = PreTrainedTokenizerBase
"""Any tokenizer of transformers'."""

_REMEDY = (
    "Add the tags with tokenizer.add_special_tokens, resize the model's embeddings and save both."
)
_AFTER_SENTENCE = " \t\"'\u201d\u2019\u00bb)]}"
"""What may stand between the end of a sentence and the next one."""


@dataclass(frozen=True)
class TagIds:
    """The ids of a pair of marks; a mark may be several ids in a row."""

    open: tuple[int, ...]
    close: tuple[int, ...]


@dataclass(frozen=True)
class ResolvedTags:
    """What the controller and the parsers need to know of a vocabulary.

    The first id of opener and closer starts nothing else inside either, so that a partial match
    that breaks off can only begin anew, never in its own middle.
    """

    think_open: tuple[int, ...]
    think_close: tuple[int, ...]
    eos: frozenset[int]
    """Ids that end a reply."""
    line_ends: frozenset[int] = frozenset()
    """Ids whose text ends a line or a sentence."""
    marks: Mapping[str, TagIds] = field(default_factory=lambda: MappingProxyType({}))
    """The tags inside THINK, by name."""

    def __post_init__(self) -> None:
        if not self.think_open or not self.think_close or not self.eos:
            raise ValueError("an opener, a closer and an end of reply need at least one id each.")
        if is_ambiguous(TagIds(self.think_open, self.think_close)):
            raise ValueError(
                "opener and closer must differ, and the first id of neither may stand further back "
                f"in either: got {self.think_open} and {self.think_close}."
            )
        if self.eos & {*self.think_open, *self.think_close}:
            raise ValueError(f"an end of reply ({sorted(self.eos)}) may not be part of a tag.")


def is_ambiguous(tag: TagIds) -> bool:
    """Say whether a broken-off match of one mark could be the middle of another."""
    firsts, later = {tag.open[0], tag.close[0]}, {*tag.open[1:], *tag.close[1:]}
    return tag.open == tag.close or bool(firsts & later)


def resolve_tags(
    tokenizer: PreTrainedTokenizerBase, *, more_ends: Iterable[int] = ()
) -> ResolvedTags:
    """Resolve tags, ends of a reply and ends of lines and sentences; reads the whole vocabulary.

    Args:
        tokenizer: The base's.
        more_ends: Ids that end a reply beside the tokenizer's own, as a generation config names.

    Raises:
        TagError: If a tag is no fixed id sequence, or the tokenizer names no end of a reply.
    """
    resolved = {tag.name: resolve_tag(tokenizer, tag) for tag in TAGS}
    think = resolved.pop(THINK.name)
    if is_ambiguous(think):
        raise TagError(
            f"The tags {THINK.open} and {THINK.close} cannot be followed token by token in the "
            f"tokenizer {_name(tokenizer)}: it writes them as {think.open} and {think.close}, where "
            f"the first id of one stands inside the other. {_REMEDY}"
        )
    if tokenizer.eos_token_id is None:
        raise TagError(
            f"Wanted a token that ends a reply, but the tokenizer {_name(tokenizer)} has none. "
            "Set tokenizer.eos_token and save it again."
        )
    return ResolvedTags(
        think_open=think.open,
        think_close=think.close,
        eos=frozenset({int(tokenizer.eos_token_id), *more_ends}),
        line_ends=_line_ends(tokenizer),
        marks=MappingProxyType(resolved),
    )


def resolve_tag(tokenizer: PreTrainedTokenizerBase, tag: Tag) -> TagIds:
    """Return the ids of one tag's marks.

    Raises:
        TagError: If a mark is no fixed id sequence at the start of a line.
    """
    return TagIds(_resolve(tokenizer, tag, tag.open), _resolve(tokenizer, tag, tag.close))


def require_tags(tokenizer: PreTrainedTokenizerBase, tags: Iterable[Tag]) -> None:
    """Refuse marks that are not those of training, or that a tokenizer does not write.

    Raises:
        TagError: If one is missing, is another one, or is no fixed id sequence.
    """
    named = {tag.name: tag for tag in tags}
    for tag in TAGS:
        if tag.name not in named:
            raise TagError(
                f"Wanted the tag {tag.name} ({tag.open} {tag.close}), got "
                f"{', '.join(named) or 'none'}. Name the tags that training used."
            )
        if named[tag.name] != tag:
            other = named[tag.name]
            raise TagError(
                f"Wanted the tag {tag.name} to be {tag.open} {tag.close} as in training, got "
                f"{other.open} {other.close}. Name the tags that training used."
            )
        resolve_tag(tokenizer, tag)


def _resolve(tokenizer: PreTrainedTokenizerBase, tag: Tag, mark: str) -> tuple[int, ...]:
    """Return a mark's ids on a line of its own.

    They are taken from behind a newline, because some tokenizers put a space before what stands first.
    """
    newline = _encode(tokenizer, "\n")
    alone, in_text = _encode(tokenizer, f"\n{mark}"), _encode(tokenizer, f"\n{mark}\n")
    ids = alone[len(newline) :]
    survives = (
        bool(ids)
        and alone[: len(newline)] == newline
        and in_text[: len(alone)] == alone
        and tokenizer.unk_token_id not in ids
        and str(tokenizer.decode(alone)).strip() == mark
    )
    if not survives:
        raise TagError(
            f"Wanted the mark {mark} of the segment {tag.name} to be a fixed sequence of ids in the "
            f"tokenizer {_name(tokenizer)}, got {ids} alone and {in_text[len(newline) :]} before a "
            f"line end. {_REMEDY}"
        )
    return tuple(ids)


def _line_ends(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
    return frozenset(index for index, text in enumerate(texts) if ends_line_or_sentence(text))


def ends_line_or_sentence(text: str) -> bool:
    """Say whether a text ends with a newline, or with . ! or ? before spaces, quotes or brackets."""
    return text.endswith("\n") or text.rstrip(_AFTER_SENTENCE).endswith((".", "!", "?"))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return repr(tokenizer.name_or_path or type(tokenizer).__name__)
