import pytest

from metacog.data.encode import Encoder
from metacog.data.schema import MalformedRow
from metacog.errors import ModelError
from metacog.records import Example, Message, RowFault
from metacog.text.render import render
from metacog.text.resolve import resolve_tags
from tests.unit.text.tokenizers import bundled, foreign

TOKENIZER = bundled()
TAGS = resolve_tags(TOKENIZER)


def encoder(*, context: int = 1000) -> Encoder:
    return Encoder(TOKENIZER, closer=TAGS.think_close, context=context)


def example(
    think: str = "\n3 + 4 = 7\n", answer: str = "\n\n7\n", asked: str = "3 + 4?"
) -> Example:
    return Example("0", "s", None, (Message("user", asked),), think, answer)


def test_the_parts_are_encoded_as_they_were_written() -> None:
    found = encoder().encode(example())
    assert list(found.prompt) == render(TOKENIZER, [{"role": "user", "content": "3 + 4?"}])
    assert TOKENIZER.decode(found.think) == "\n3 + 4 = 7\n"
    assert TOKENIZER.decode(found.answer) == "\n\n7<|end|>"
    assert found.length == len([*found.prompt, *found.think, *found.answer]) + 1


def test_behind_an_opener_with_a_line_end_no_second_one_follows() -> None:
    tokenizer = foreign(added=("<think>", "</think>"))
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}"
    )
    closer = resolve_tags(tokenizer).think_close
    found = Encoder(tokenizer, closer=closer, context=1000).encode(example())
    assert tokenizer.decode([*found.prompt, *found.think]).endswith("<think>\n3 + 4 = 7\n")


@pytest.mark.parametrize(
    "spelled", ["<|end|>", "<|user|>", "<plan>verify</plan>", "<|pad|>", "</think>"]
)
def test_a_control_token_in_a_row_is_text(spelled: str) -> None:
    found = encoder().encode(example(f"it is {spelled} here", f"so {spelled}", f"{spelled}?"))
    plain = encoder().encode(example("it is here", "so", "?"))
    control = set(TOKENIZER.all_special_ids) | {*TAGS.think_open, *TAGS.think_close}
    for part in ("prompt", "think", "answer"):
        counts = [sum(token in control for token in getattr(e, part)) for e in (found, plain)]
        assert counts[0] == counts[1], part
    assert TOKENIZER.decode(found.think) == f"it is {spelled} here"
    assert TOKENIZER.decode(found.answer[:-1]) == f"so {spelled}"


def test_every_byte_survives() -> None:
    odd = "\x00\u202e é 𝄞\t\x1b[31m"
    assert TOKENIZER.decode(encoder().encode(example(odd)).think) == odd


def test_an_example_as_long_as_the_context_is_the_longest() -> None:
    length = encoder().encode(example()).length
    assert encoder(context=length).encode(example()).length == length
    with pytest.raises(MalformedRow) as raised:
        encoder(context=length - 1).encode(example())
    assert raised.value.fault is RowFault.TOO_LONG


def test_a_million_tokens_are_too_long_and_nothing_else() -> None:
    with pytest.raises(MalformedRow) as raised:
        encoder().encode(example("3 + " * 500_000))
    assert raised.value.fault is RowFault.TOO_LONG


def test_what_the_tokenizer_has_no_token_for_is_malformed() -> None:
    tokenizer = foreign(
        added=("<think>", "</think>"), unknown="<unk>", pieces=("a", "b", ".", "\n"), pattern="."
    )
    lettered = Encoder(tokenizer, closer=(1, 2), context=1000)
    assert lettered.encode(example("ab.", "b", "a")).example.answer == "b"
    with pytest.raises(MalformedRow) as raised:
        lettered.encode(example("abc", "b", "a"))
    assert raised.value.fault is RowFault.UNENCODABLE


def test_messages_that_the_template_refuses_are_malformed() -> None:
    tokenizer = foreign(added=("<think>", "</think>"))
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(MalformedRow) as raised:
        Encoder(tokenizer, closer=(1,), context=1000).encode(example())
    assert raised.value.fault is RowFault.UNRENDERABLE


def test_a_template_that_may_not_run_is_no_fault_of_the_row() -> None:
    tokenizer = foreign(added=("<think>", "</think>"))
    tokenizer.chat_template = "{{ ''.__class__.__mro__ }}"
    with pytest.raises(ModelError):
        Encoder(tokenizer, closer=(1,), context=1000).encode(example())


def test_a_control_token_that_cannot_be_told_from_text_is_a_fault_of_the_row() -> None:
    lettered = Encoder(foreign(added=("<think>", "</think>"), unknown="?"), closer=(1,), context=99)
    with pytest.raises(MalformedRow) as raised:
        lettered.encode(example("Is it?", "b", "a"))
    assert raised.value.fault is RowFault.UNRENDERABLE
    assert lettered.raw_length({"think": "Is it?"}) > 1


def test_the_raw_length_of_a_row_counts_all_its_text() -> None:
    values = {"prompt": "3 + 4?", "messages": [{"content": "3 + 4?"}], "score": 3, "odd": "\ud800"}
    once = len(TOKENIZER.encode("3 + 4?", add_special_tokens=False))
    assert encoder().raw_length(values) == 2 * once + 1
    assert encoder().raw_length({}) == 0
