"""A reply falls into THINK, ANSWER and marked spans, by ids and by text."""

import pytest

from metacog.errors import TagError
from metacog.text.resolve import MarkIds, ResolvedTags, resolve_tags
from metacog.text.segments import segment_metrics, split_ids, split_text
from tests.unit.text.tokenizers import bundled

TAGS = ResolvedTags(
    (1, 3),
    (2, 4),
    eos=frozenset({0}),
    marks={
        "plan": MarkIds(((10,),), ((11,),)),
        "exec": MarkIds(((12, 13), (12, 16)), ((14, 15), (14, 17))),
    },
)


def test_ids_are_split_at_the_first_closer() -> None:
    parts = split_ids([7, 2, 7, 2, 4, 8, 2, 4, 0], TAGS)
    assert (parts.think, parts.answer) == ((7, 2, 7), (8, 2, 4, 0))
    assert split_ids([7, 2], TAGS).answer is None
    assert split_ids([2, 4], TAGS).think == ()
    assert split_ids([2, 4], TAGS).answer == ()


def test_spans_are_counted_strictly_between_their_marks() -> None:
    parts = split_ids([10, 7, 8, 11, 12, 13, 7, 14, 15, 9, 10, 9, 11, 2, 4, 10, 5, 11], TAGS)
    assert parts.spans == {"plan": ((7, 8), (9,)), "exec": ((7,),)}
    assert segment_metrics(parts) == {
        "segments/plan_tokens": 3.0,
        "segments/plan_fraction": 3 / 13,
        "segments/exec_tokens": 1.0,
        "segments/exec_fraction": 1 / 13,
        "segments/eval_tokens": None,
        "segments/eval_fraction": None,
    }


def test_a_mark_that_has_joined_with_its_newline_is_seen() -> None:
    assert split_ids([12, 16, 7, 14, 17, 8, 12, 13, 9, 14, 17], TAGS).spans == {
        "exec": ((7,), (9,))
    }


def test_a_span_that_is_not_closed_ends_with_think() -> None:
    assert split_ids([7, 10, 8, 8, 2, 4, 9], TAGS).spans == {"plan": ((8, 8),)}
    assert split_ids([7, 10], TAGS).spans == {"plan": ((),)}


def test_without_thinking_every_metric_is_missing() -> None:
    assert set(segment_metrics(split_ids([2, 4, 9], TAGS)).values()) == {None}


def test_an_empty_span_is_zero_not_missing() -> None:
    metrics = segment_metrics(split_ids([10, 11, 2, 4], TAGS))
    assert (metrics["segments/plan_tokens"], metrics["segments/plan_fraction"]) == (0.0, 0.0)


def test_the_bundled_tags_are_found_in_encoded_text() -> None:
    tokenizer = bundled()
    text = "<plan>verify</plan>\n3 + 4 = 7\n</think>7"
    parts = split_ids(tokenizer.encode(text), resolve_tags(tokenizer))
    assert [tokenizer.decode(list(span)) for span in parts.spans["plan"]] == ["verify"]
    assert parts.answer is not None
    assert tokenizer.decode(list(parts.answer)) == "7"


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nwork\n</think>\nso 7",
        "work</think>so 7",
        "  < Think >work</ THINK >so 7",
        "<THINK>work< /think>so 7",
    ],
)
def test_text_is_split_whatever_the_white_space_and_case(text: str) -> None:
    parts = split_text(text, require=["think"])
    assert (parts.think, parts.answer) == ("work", "so 7")


def test_text_spans_are_found() -> None:
    parts = split_text("<think>< PLAN >a</plan>b<exec>c\nd</exec><plan>e</think>f<eval>g</eval>")
    assert parts.spans == {"plan": ("a", "e"), "exec": ("c\nd",)}


@pytest.mark.parametrize(
    ("text", "require", "mark"),
    [
        ("work so 7", "think", "</think>"),
        ("work</think>7", "plan", "<plan>"),
        ("<plan>x</think>7", "plan", "</plan>"),
        ("work</think>7<eval>x</eval>", "eval", "<eval>"),
    ],
)
def test_an_absent_tag_is_named(text: str, require: str, mark: str) -> None:
    with pytest.raises(TagError, match=f"Wanted the tag {mark} "):
        split_text(text, require=[require])


def test_open_thinking_has_no_answer() -> None:
    assert split_text("<think>work").answer is None
    assert split_text("<think>work</think>").answer == ""
