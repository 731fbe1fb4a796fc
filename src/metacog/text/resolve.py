"""Where the segment tags lie in a tokenizer's vocabulary."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from transformers import PreTrainedTokenizerBase

from metacog.errors import TagError
from metacog.text.tags import INNER, TAGS, THINK, Tag

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
class MarkIds:
    """The ids of a pair of marks inside THINK, in each way that a tokenizer may write them.

    The first way is the mark by itself; others have newlines behind it in their last id, as tokenizers
    write them that join a sign with a line end.
    """

    opens: tuple[tuple[int, ...], ...]
    closes: tuple[tuple[int, ...], ...]

    @property
    def alone(self) -> TagIds:
        """The marks with nothing behind them."""
        return TagIds(self.opens[0], self.closes[0])


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
    marks: Mapping[str, MarkIds] = field(default_factory=lambda: MappingProxyType({}))
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
        TagError: If the marks of THINK are no fixed id sequences, another mark cannot be written, or the
            tokenizer names no end of a reply.
    """
    think = resolve_tag(tokenizer, THINK)
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
        marks=MappingProxyType({tag.name: resolve_mark(tokenizer, tag) for tag in INNER}),
    )


def tag_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, TagIds]:
    """Return the ids of every tag's marks by themselves, by name.

    Raises:
        TagError: As `resolve_tags`.
    """
    inner = {tag.name: resolve_mark(tokenizer, tag).alone for tag in INNER}
    return {THINK.name: resolve_tag(tokenizer, THINK), **inner}


def resolve_tag(tokenizer: PreTrainedTokenizerBase, tag: Tag) -> TagIds:
    """Return the ids of one tag's marks, which have to be the same whatever stands behind them.

    Raises:
        TagError: If a mark is no fixed id sequence at the start of a line.
    """
    return TagIds(_fixed(tokenizer, tag, tag.open), _fixed(tokenizer, tag, tag.close))


def resolve_mark(tokenizer: PreTrainedTokenizerBase, tag: Tag) -> MarkIds:
    """Return the ids of a tag's marks, with and without a newline behind them.

    Raises:
        TagError: If the tokenizer cannot write a mark.
    """
    return MarkIds(_ways(tokenizer, tag, tag.open), _ways(tokenizer, tag, tag.close))


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
    tag_ids(tokenizer)


def _fixed(tokenizer: PreTrainedTokenizerBase, tag: Tag, mark: str) -> tuple[int, ...]:
    """Return the ids of a mark that has but one way."""
    ways = _ways(tokenizer, tag, mark)
    if len(ways) > 1:
        raise TagError(
            f"Wanted the mark {mark} of the segment {tag.name} to be a fixed sequence of ids in the "
            f"tokenizer {_name(tokenizer)}, got {ways[0]} alone and {ways[1]} before a line end. "
            f"{_REMEDY}"
        )
    return ways[0]


def _ways(tokenizer: PreTrainedTokenizerBase, tag: Tag, mark: str) -> tuple[tuple[int, ...], ...]:
    """Return the ids of a mark at the start of a line: alone, and before newlines where they differ.

    They are taken from behind a newline, because some tokenizers put a space before what stands first.
    """
    newline = _encode(tokenizer, "\n")
    texts = [_encode(tokenizer, f"\n{mark}{behind}") for behind in ("", "\n", "\n\n")]
    alone = texts[0]
    ids, *others = (tuple(text[len(newline) :]) for text in texts)
    survives = (
        bool(ids)
        and all(text[: len(newline)] == newline for text in texts)
        and tokenizer.unk_token_id not in ids
        and str(tokenizer.decode(alone)).strip() == mark
    )
    if not survives:
        raise TagError(
            f"Wanted the mark {mark} of the segment {tag.name} to be a fixed sequence of ids in the "
            f"tokenizer {_name(tokenizer)}, got {list(ids)} for it. {_REMEDY}"
        )
    return (ids, *dict.fromkeys(other for other in others if other[: len(ids)] != ids))


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
