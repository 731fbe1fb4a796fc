"""Every tag is one id or a fixed sequence, or the tokenizer is refused."""

import pytest

from metacog.errors import TagError
from metacog.text.resolve import (
    ResolvedTags,
    TagIds,
    ends_line_or_sentence,
    is_ambiguous,
    resolve_tag,
    resolve_tags,
)
from metacog.text.segments import split_ids
from metacog.text.tags import EVAL, EXEC, PLAN, TAGS, THINK
from tests.unit.text.tokenizers import bundled, foreign


def test_the_bundled_tokenizer_has_one_id_for_each_tag() -> None:
    tokenizer, tags = bundled(), resolve_tags(bundled())
    ids = tokenizer.convert_tokens_to_ids
    assert tags.think_open == (ids("<think>"),)
    assert tags.think_close == (ids("</think>"),)
    assert {*tags.marks} == {PLAN.name, EXEC.name, EVAL.name}
    for tag in (PLAN, EXEC, EVAL):
        assert tags.marks[tag.name].alone == TagIds((ids(tag.open),), (ids(tag.close),))
        assert len(tags.marks[tag.name].closes) == 1
    assert tags.eos == {tokenizer.eos_token_id}
    assert {tokenizer.decode([index]) for index in tags.line_ends} == {
        "\n",
        *(f"{space}{mark}" for space in ("", " ") for mark in ".!?"),
    }


def test_a_tag_of_several_ids_is_resolved_as_it_is_written() -> None:
    tokenizer = foreign(pattern=r"\w+|\s|</|[^\w\s]")
    tags = resolve_tags(tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(tags.think_open)) == ["<", "think", ">"]
    assert tokenizer.convert_ids_to_tokens(list(tags.think_close)) == ["</", "think", ">"]
    for tag in TAGS:
        resolved = resolve_tag(tokenizer, tag)
        assert tokenizer.decode(list(resolved.open)) == tag.open


def test_line_ends_are_all_tokens_that_end_a_line_or_a_sentence() -> None:
    tokenizer = foreign(pieces=("think", ".\n", '."', ". ", "3", ".5", "so:"))
    ends = {tokenizer.decode([index]) for index in resolve_tags(tokenizer).line_ends}
    assert ends == {"\n", ".\n", ".", "!", "?", '."', ". "}


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (" done.", True),
        ("why?)", True),
        ("Stop! ", True),
        ("said.\u201d", True),
        ("x\n", True),
        ("3", False),
        ("e.g", False),
        (")", False),
        (" ", False),
        ("", False),
        (".\n x", False),
        ("so:", False),
    ],
)
def test_a_sentence_ends_before_spaces_quotes_and_brackets(text: str, ends: bool) -> None:
    assert ends_line_or_sentence(text) is ends


def test_more_ends_of_a_reply_can_be_named() -> None:
    tokenizer = bundled()
    assert resolve_tags(tokenizer, more_ends=[0]).eos == {0, tokenizer.eos_token_id}


def test_a_tag_that_melts_into_its_surroundings_is_refused() -> None:
    tokenizer = foreign(pattern=r"\w+|>\n|\s|[^\w\s]", pieces=("think", ">\n"))
    with pytest.raises(TagError, match=r"<think>.*segment think.*'foreign'.*add_special_tokens"):
        resolve_tag(tokenizer, THINK)


def test_marks_that_join_with_a_line_end_are_no_reason_to_refuse_a_base() -> None:
    """As Qwen's vocabulary writes them: `<`, `plan` and `>` with a newline in one id."""
    tokenizer = foreign(
        pattern=r"<think>|</think>|\w+|</|[^\w\s]\n+|\s|[^\w\s]",
        pieces=("plan", "exec", "eval", "</", ">\n", ">\n\n"),
        added=("<think>", "</think>"),
    )
    tags = resolve_tags(tokenizer)
    assert len(tags.think_close) == 1
    text = "<plan>verify</plan>\n3 + 4\n<exec>\n7\n</exec>\n\nso 7\n</think>7"
    parts = split_ids(tokenizer.encode(text, add_special_tokens=False), tags)
    assert {name: list(map(tokenizer.decode, found)) for name, found in parts.spans.items()} == {
        "plan": ["verify"],
        "exec": ["7\n"],
    }


def test_a_tag_with_unknown_pieces_is_refused() -> None:
    with pytest.raises(TagError, match="fixed sequence of ids"):
        resolve_tag(foreign(pieces=("think", ">"), unknown="?"), THINK)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = foreign()
    tokenizer.eos_token = None
    with pytest.raises(TagError, match="ends a reply"):
        resolve_tags(tokenizer)


@pytest.mark.parametrize(
    ("opener", "closer", "ambiguous"),
    [
        ((1,), (2,), False),
        ((1, 2, 3), (1, 4, 3), False),
        ((1,), (1,), True),
        ((1, 2, 1), (3,), True),
        ((1, 2), (2, 3), True),
    ],
)
def test_tags_that_a_broken_match_could_confuse_are_refused(
    opener: tuple[int, ...], closer: tuple[int, ...], ambiguous: bool
) -> None:
    assert is_ambiguous(TagIds(opener, closer)) is ambiguous
    if ambiguous:
        with pytest.raises(ValueError, match="opener and closer"):
            ResolvedTags(opener, closer, eos=frozenset({0}))


def test_impossible_tags_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one id"):
        ResolvedTags((), (2,), eos=frozenset({0}))
    with pytest.raises(ValueError, match="may not be part of a tag"):
        ResolvedTags((1,), (2,), eos=frozenset({2}))
