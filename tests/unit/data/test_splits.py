from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import Question, draw, stream_questions
from metacog.data.tasks.splits import Split, question_hash, split_of

SHARES = {
    Split.BASE_TRAIN: 0.50,
    Split.LAYER_TRAIN: 0.28,
    Split.CALIBRATION: 0.06,
    Split.VALIDATION: 0.06,
    Split.TEST: 0.10,
}


def test_no_question_is_drawn_for_two_splits() -> None:
    """Small ranges repeat, so that splits by seed alone would share questions."""
    found: dict[Split, set[str]] = {split: set() for split in Split}
    num_drawn = 0
    for split in Split:
        for seed in (0, 1, 77):
            for family in FAMILIES:
                stream = stream_questions(split, seed=seed, families=[family])
                for question in (next(stream) for _ in range(12)):
                    assert question.family == family
                    assert split_of(question.text) is split
                    found[split].add(question.id)
                    num_drawn += 1
    distinct = set().union(*found.values())
    assert sum(map(len, found.values())) == len(distinct)
    assert num_drawn > 1400
    assert num_drawn > len(distinct), "nothing was drawn twice: the test shows nothing"


def test_another_seed_or_stream_draws_the_same_questions_into_the_same_split() -> None:
    homes: dict[str, set[Split]] = {}
    seen: Counter[str] = Counter()
    for stream in range(3):
        for family in FAMILIES:
            for level in range(NUM_LEVELS):
                for index in range(30):
                    question = draw(family, level, index, stream=stream)
                    if question is not None:
                        homes.setdefault(question.id, set()).add(split_of(question.text))
                        seen[question.id] += 1
    assert all(len(splits) == 1 for splits in homes.values())
    assert sum(count > 1 for count in seen.values()) > 100, "nothing was drawn twice"


def test_splits_have_their_shares(questions: list[Question]) -> None:
    texts = {question.text for question in questions}
    counts = Counter(split_of(text) for text in texts)
    assert len(texts) > 1500
    for split, share in SHARES.items():
        assert abs(counts[split] / len(texts) - share) < 0.05


def test_white_space_and_case_never_move_a_question(questions: list[Question]) -> None:
    for question in questions[::7]:
        for text in (
            question.text.upper(),
            question.text.lower(),
            f"\n  {question.text}\t ",
            question.text.replace(" ", "  \n "),
        ):
            assert question_hash(text) == question.id
            assert split_of(text) is split_of(question.text)


def test_a_digit_makes_another_question(questions: list[Question]) -> None:
    for question in questions[::7]:
        assert question_hash(question.text + "1") != question.id


@given(st.text())
def test_every_text_has_one_split_and_a_hash_of_16_digits(text: str) -> None:
    assert len(question_hash(text)) == 16
    assert split_of(text) in Split
    assert split_of(f" {text} ") is split_of(text)


def test_a_known_question_stays_where_it_is() -> None:
    """Published figures rest on this: a change of the hash would open the test split."""
    assert question_hash("What is  3 + 4?") == question_hash("what is 3 + 4?")
    assert question_hash("what is 3 + 4?") == "98bdec5b78907e47"
    assert split_of("what is 3 + 4?").value == "layer-train"
