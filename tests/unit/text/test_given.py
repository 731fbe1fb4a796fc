import pytest

from metacog.records import RowFault
from metacog.text.given import GivenReply, split_given


@pytest.mark.parametrize(
    ("text", "think", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("<think>\na\n</think>\n\nb\n", "\na\n", "\n\nb\n"),
        ("\n <think>a</think>b", "a", "b"),
        ("a</think>b", "a", "b"),
        ("< Think >a</ THINK>b", "a", "b"),
        ("<think>1 < 2, so <b></think>b", "1 < 2, so <b>", "b"),
    ],
)
def test_a_whole_reply_is_split_as_it_was_written(text: str, think: str, answer: str) -> None:
    assert split_given(text) == GivenReply(think, answer)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("b", RowFault.NO_THINK),
        ("", RowFault.NO_THINK),
        ("<think> \n</think>b", RowFault.NO_THINK),
        ("</think>b", RowFault.NO_THINK),
        ("Well. <think>a</think>b", RowFault.MISPLACED),
        ("<think>a", RowFault.UNCLOSED),
        ("<think>a<think>b</think>c", RowFault.NESTED),
        ("<think>a<think>b</think>c</think>d", RowFault.NESTED),
        ("<think>a</think>b</think>c", RowFault.DUPLICATED),
        ("<think>a</think>b<think>c</think>d", RowFault.DUPLICATED),
        ("a</think>b<THINK>", RowFault.DUPLICATED),
        ("<think>a</think>", RowFault.EMPTY_ANSWER),
        ("<think>a</think> \n", RowFault.EMPTY_ANSWER),
    ],
)
def test_what_is_wrong_with_the_tags_is_said(text: str, fault: RowFault) -> None:
    assert split_given(text) is fault
