from metacog.telemetry.samples import Sample, Verdict, describe_sample


def sample(**changes: object) -> Sample:
    given: dict[str, object] = {
        "suite": "puzzles",
        "number": 1,
        "id": "ab",
        "question": "What is 2 + 3?",
        "wanted": "5",
        "thinking": "2 + 3 = 5",
        "answer": "5",
        "correct": True,
        "think_tokens": 5,
        "budget": None,
        "close_reason": "natural",
        "plan": None,
        "confidence": None,
        "since": 100,
        "before": None,
    }
    return Sample(**{**given, **changes})


def test_a_right_reply_needs_no_wanted_answer() -> None:
    line = describe_sample(sample().as_data())
    assert line == ('puzzles 1 right  "What is 2 + 3?"  THINK 5/- natural "2 + 3 = 5"  ANSWER "5"')


def test_long_texts_lose_their_middle_on_the_line_and_stay_whole_in_the_data() -> None:
    long = sample(thinking="begin " + "x" * 500 + " end")
    line = describe_sample(long.as_data())
    assert len(line) < 250
    assert '"begin x' in line
    assert 'x end"' in line
    assert long.as_data()["thinking"] == long.thinking


def test_a_change_says_what_was_before() -> None:
    changed = sample(before=Verdict(correct=False, since=20), since=60).as_data()
    assert changed["before"] == {"correct": False, "since": 20}
    assert "right (was wrong since step 20)" in describe_sample(changed)


def test_what_is_missing_shows_as_missing() -> None:
    line = describe_sample({"correct": False})
    assert 'sample - wrong  "-"  THINK -/- - "-"  ANSWER "-" wanted "-"' in line
