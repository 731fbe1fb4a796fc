"""Logic puzzles in plain English with one short answer, for a base that reads English.

They are this project's own, written to be answerable by thinking alone, and are trained on nowhere.
"""

import re
from dataclasses import dataclass

from metacog.data.tasks.splits import question_hash
from metacog.text.answers import normalise_answer

_MARKS = re.compile(r"[^\w\s]")


@dataclass(frozen=True)
class Riddle:
    """A puzzle and the one word or number that answers it."""

    text: str
    answer: str

    @property
    def id(self) -> str:
        """The hash of the normalised text."""
        return question_hash(self.text)


def answers(riddle: Riddle, reply: str) -> bool:
    """Return whether the reply's last word is the answer, letter case and marks left out."""
    words = _MARKS.sub(" ", normalise_answer(reply)).split()
    return bool(words) and words[-1] == normalise_answer(riddle.answer)


_ONE_WORD = "Answer with one word."
_ONE_NUMBER = "Answer with one number."

RIDDLES = tuple(
    Riddle(f"{text} {form}", answer)
    for text, form, answer in (
        (
            "Ann is taller than Bea. Bea is taller than Cleo. Who is the shortest?",
            _ONE_WORD,
            "Cleo",
        ),
        (
            "Every lamp in the hall is green. Nothing green is heavy. Is any lamp in the hall heavy?",
            _ONE_WORD,
            "no",
        ),
        (
            "Three boxes are red, blue and white. The coin is not in the red box, and not in the "
            "white one. Which box holds the coin?",
            _ONE_WORD,
            "blue",
        ),
        ("Today is Tuesday. Which day was it three days ago?", _ONE_WORD, "Saturday"),
        (
            "Tom has two sisters. Each of his sisters has one brother. How many children are there "
            "in the family?",
            _ONE_NUMBER,
            "3",
        ),
        (
            "If it rains, the street is wet. The street is dry. Does it rain?",
            _ONE_WORD,
            "no",
        ),
        (
            "Dora sits left of Emil. Emil sits left of Finn. Who sits in the middle?",
            _ONE_WORD,
            "Emil",
        ),
        ("What number comes next: 2, 4, 8, 16?", _ONE_NUMBER, "32"),
    )
)
"""The fixed set."""
