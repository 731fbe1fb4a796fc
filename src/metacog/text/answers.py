"""What a reply answers, as text that can be compared."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def answer_text(tokenizer: PreTrainedTokenizerBase, answer: Sequence[int]) -> str:
    """Return the text of an answer's ids without control tokens and surrounding white space."""
    return str(tokenizer.decode(list(answer), skip_special_tokens=True)).strip()


def normalise_answer(text: str) -> str:
    """Return an answer with letter case folded and every run of white space as one space."""
    return " ".join(text.split()).casefold()
