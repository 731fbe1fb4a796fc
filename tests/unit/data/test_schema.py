import pytest

from metacog.data.schema import MalformedRow, Origin, RowKind, example_of, kind_of
from metacog.errors import DataError
from metacog.records import Example, Message, RowFault

ORIGIN = Origin("rows.jsonl", "math", 7)
REPLY = "<think>two and two</think>4"
ASKED = (Message("user", "2 + 2?"),)


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (["prompt", "response"], RowKind.RESPONSE),
        (["id", "messages", "prompt"], RowKind.MESSAGES),
        (["completion", "prompt", "score"], RowKind.COMPLETION),
        (["question", "answer"], RowKind.WORKED),
    ],
)
def test_columns_tell_the_kind(columns: list[str], kind: RowKind) -> None:
    assert kind_of(columns, "x") is kind


@pytest.mark.parametrize("columns", [["instruction", "output"], ["prompt"], []])
def test_other_columns_are_named(columns: list[str]) -> None:
    found = ", ".join(columns) or "none"
    with pytest.raises(DataError, match=rf"prompt and response.*in x, found {found}\. Rename"):
        kind_of(columns, "x")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"prompt": "2 + 2?", "response": REPLY}, RowKind.RESPONSE),
        ({"prompt": "2 + 2?", "completion": REPLY}, RowKind.COMPLETION),
        (
            {
                "prompt": [{"role": "user", "content": "2 + 2?"}],
                "completion": [{"role": "assistant", "content": REPLY}],
            },
            RowKind.COMPLETION,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "2 + 2?"},
                    {"role": "assistant", "content": REPLY},
                ]
            },
            RowKind.MESSAGES,
        ),
    ],
)
def test_every_kind_gives_the_same_example(values: dict[str, object], kind: RowKind) -> None:
    expected = Example("7", "rows.jsonl", "math", ASKED, "two and two", "4")
    assert example_of(values, kind, ORIGIN) == expected


def test_a_row_may_name_itself() -> None:
    values = {"id": "r-1", "prompt": "2 + 2?", "response": REPLY}
    assert example_of(values, RowKind.RESPONSE, ORIGIN).id == "r-1"


def test_earlier_turns_are_kept_as_the_prompt() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 2?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    values = {"messages": [*messages, {"role": "assistant", "content": REPLY}]}
    found = example_of(values, RowKind.MESSAGES, ORIGIN)
    assert [(m.role, m.content) for m in found.messages] == turns
    assert (found.think, found.answer) == ("two and two", "4")


def test_a_worked_solution_is_split_at_its_result() -> None:
    values = {"question": "Half of 48?", "answer": "It is 48/2 = <<48/2=24>>24.\n#### 24"}
    found = example_of(values, RowKind.WORKED, ORIGIN)
    assert (found.think, found.answer) == ("It is 48/2 = 24.\n", "24")


@pytest.mark.parametrize(
    ("values", "kind", "fault"),
    [
        ({"prompt": "a", "response": None}, RowKind.RESPONSE, RowFault.WRONG_TYPE),
        ({"prompt": "a"}, RowKind.RESPONSE, RowFault.WRONG_TYPE),
        ({"prompt": 3, "response": REPLY}, RowKind.RESPONSE, RowFault.WRONG_TYPE),
        ({"prompt": " \n", "response": REPLY}, RowKind.RESPONSE, RowFault.EMPTY_PROMPT),
        ({"prompt": "\ud800", "response": REPLY}, RowKind.RESPONSE, RowFault.INVALID_UTF8),
        (
            {"prompt": "a", "response": "<think>\udfff</think>4"},
            RowKind.RESPONSE,
            RowFault.INVALID_UTF8,
        ),
        ({"prompt": "a", "response": "<think>b"}, RowKind.RESPONSE, RowFault.UNCLOSED),
        ({"messages": []}, RowKind.MESSAGES, RowFault.WRONG_TYPE),
        ({"messages": "hello"}, RowKind.MESSAGES, RowFault.WRONG_TYPE),
        ({"messages": [{"role": "user", "content": "a"}]}, RowKind.MESSAGES, RowFault.WRONG_TYPE),
        ({"messages": [{"role": "robot", "content": "a"}]}, RowKind.MESSAGES, RowFault.WRONG_TYPE),
        (
            {"messages": [{"role": "assistant", "content": REPLY}]},
            RowKind.MESSAGES,
            RowFault.EMPTY_PROMPT,
        ),
        ({"prompt": "a", "completion": []}, RowKind.COMPLETION, RowFault.WRONG_TYPE),
        ({"question": "a", "answer": "24"}, RowKind.WORKED, RowFault.NO_THINK),
        ({"question": "a", "answer": "b\n#### "}, RowKind.WORKED, RowFault.EMPTY_ANSWER),
    ],
)
def test_a_malformed_row_says_why(
    values: dict[str, object], kind: RowKind, fault: RowFault
) -> None:
    with pytest.raises(MalformedRow) as raised:
        example_of(values, kind, ORIGIN)
    assert raised.value.fault is fault
