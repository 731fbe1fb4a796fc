"""An answer's ids become text that can be compared."""

from metacog.text.answers import answer_text, normalise_answer
from tests.unit.text.tokenizers import bundled


def test_an_answer_has_no_control_tokens_and_no_margins() -> None:
    tokenizer = bundled()
    ids = tokenizer.encode(" 3 + 4\n<|end|>")
    assert answer_text(tokenizer, ids) == "3 + 4"
    assert answer_text(tokenizer, tuple(ids)) == "3 + 4"
    assert answer_text(tokenizer, []) == ""


def test_normal_answers_ignore_case_and_white_space() -> None:
    assert normalise_answer("  Yes,\n it  IS ") == "yes, it is"
