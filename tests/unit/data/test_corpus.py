from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metacog.data.tasks.corpus import Corpus, CorpusMix, TokenRow, bucketed
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, stream_questions
from metacog.data.tasks.splits import Split, split_of
from metacog.data.tasks.traces import choose_plan, think
from metacog.text.render import render
from metacog.text.tokenizer import Tokenizer

WHOLE = CorpusMix(
    family_weights=dict.fromkeys(FAMILIES, 1.0),
    level_weights=(1.0,) * 8,
    cut_share=0.0,
    cut_at_line_share=1.0,
    direct_families=None,
    cut_answer_weight=3.0,
)
CUT = replace(WHOLE, cut_share=1.0)


def corpus_of(tokenizer: Tokenizer, mix: CorpusMix, *, seed: int = 0) -> Corpus:
    return Corpus(tokenizer, mix, split=Split.BASE_TRAIN, seed=seed)


def prompt_of(tokenizer: Tokenizer, question: Question) -> list[int]:
    return render(tokenizer, [{"role": "user", "content": question.text}])


def ended(tokenizer: Tokenizer, text: str) -> list[int]:
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


def test_a_whole_row_trains_thinking_closer_and_answer_but_no_slip(
    tokenizer: Tokenizer, questions: list[Question]
) -> None:
    corpus, slips = corpus_of(tokenizer, WHOLE), 0
    close = tokenizer.convert_tokens_to_ids("</think>")
    for seed, question in enumerate(questions[::20]):
        row = corpus.row(question, Random(seed))
        rng = Random(seed)
        pieces = think(question.lines, choose_plan(question.lines, rng), rng)
        prompt, end = prompt_of(tokenizer, question), ended(tokenizer, question.answer)
        assert row.ids[: len(prompt)] == prompt
        assert row.weights[: len(prompt)] == [0.0] * len(prompt)
        assert row.ids[-len(end) - 1 :] == [close, *end]
        assert row.weights[-len(end) - 1 :] == [1.0] * (len(end) + 1)
        inside = slice(len(prompt), len(row.ids) - len(end) - 1)
        thought = list(zip(row.ids[inside], row.weights[inside], strict=True))
        assert tokenizer.decode([i for i, _ in thought]) == "".join(p.text for p in pieces)
        untrained = "".join(p.text for p in pieces if not p.trained)
        assert tokenizer.decode([i for i, weight in thought if weight == 0]) == untrained
        assert {weight for _, weight in thought} <= {0.0, 1.0}
        slips += bool(untrained)
    assert slips > 5


def test_a_cut_row_trains_its_answer_alone_after_a_whole_line(
    tokenizer: Tokenizer, questions: list[Question]
) -> None:
    corpus = corpus_of(tokenizer, CUT)
    close = tokenizer.convert_tokens_to_ids("</think>")
    newline = tokenizer.convert_tokens_to_ids("\n")
    lengths = set()
    for seed, question in enumerate(questions[::20]):
        row = corpus.row(question, Random(seed))
        whole = corpus_of(tokenizer, WHOLE).row(question, Random(seed))
        prompt, end = prompt_of(tokenizer, question), ended(tokenizer, question.answer)
        kept = row.ids[len(prompt) : -len(end) - 1]
        assert row.ids == [*prompt, *kept, close, *end]
        assert kept == whole.ids[len(prompt) : len(prompt) + len(kept)]
        assert kept == [] or kept[-1] == newline
        assert row.weights == [0.0] * (len(row.ids) - len(end)) + [3.0] * len(end)
        lengths.add(len(kept))
    assert len(lengths) > 20


def test_a_cut_may_lie_anywhere(tokenizer: Tokenizer, questions: list[Question]) -> None:
    corpus = corpus_of(tokenizer, replace(CUT, cut_at_line_share=0.0))
    newline = tokenizer.convert_tokens_to_ids("\n")
    question = max(questions, key=lambda question: len(question.lines))
    skipped = len(prompt_of(tokenizer, question))
    left = len(ended(tokenizer, question.answer)) + 1
    kept = [corpus.row(question, Random(seed)).ids[skipped:-left] for seed in range(60)]
    assert sum(bool(ids) and ids[-1] != newline for ids in kept) > 20


def test_shares_of_cut_rows_are_kept(tokenizer: Tokenizer) -> None:
    rows = corpus_of(tokenizer, replace(WHOLE, cut_share=0.3)).chunk(0, 300)
    share = sum(3.0 in row.weights for row in rows) / len(rows)
    assert 0.22 < share < 0.38


def test_a_chunk_is_the_same_whenever_it_is_asked_for(tokenizer: Tokenizer) -> None:
    corpus = corpus_of(tokenizer, replace(WHOLE, cut_share=0.3))
    first, second = corpus.chunk(3, 30), corpus.chunk(4, 30)
    assert corpus_of(tokenizer, replace(WHOLE, cut_share=0.3)).chunk(3, 30) == first
    assert corpus.chunk(3, 30) == first
    ids = {tuple(row.ids) for row in first}
    assert len(ids & {tuple(row.ids) for row in second}) < 5
    assert corpus_of(tokenizer, replace(WHOLE, cut_share=0.3), seed=1).chunk(3, 30) != first


def test_a_chunk_holds_questions_of_its_split_in_the_shares_of_its_mix(
    tokenizer: Tokenizer,
) -> None:
    mix = replace(
        WHOLE,
        family_weights={"chain_sum": 3.0, "gcd": 1.0, **dict.fromkeys(["ab", "aiw"], 0.0)},
    )
    prompts = []
    for row in corpus_of(tokenizer, mix).chunk(0, 200):
        start = row.ids.index(tokenizer.convert_tokens_to_ids("<think>"))
        prompts.append(tokenizer.decode(row.ids[:start], skip_special_tokens=True).strip())
    assert {split_of(text) for text in prompts} == {Split.BASE_TRAIN}
    kinds = Counter("Divisor" in text for text in prompts)
    assert all("arithmetic problem" in text or "Divisor" in text for text in prompts)
    assert 0.15 < kinds[True] / len(prompts) < 0.35


def test_direct_is_left_to_the_families_that_may_have_it(
    tokenizer: Tokenizer, questions: list[Question]
) -> None:
    short = [q for q in questions if q.family in {"aiw", "chain_sum"} and len(q.lines) <= 3]
    mark = tokenizer.encode("direct", add_special_tokens=False)
    for allowed, families in ((None, {"aiw", "chain_sum"}), (frozenset({"aiw"}), {"aiw"})):
        corpus = corpus_of(tokenizer, replace(WHOLE, direct_families=allowed))
        found = set()
        for seed, question in enumerate(short):
            row = corpus.row(question, Random(seed))
            start = row.ids.index(tokenizer.convert_tokens_to_ids("<plan>")) + 1
            if row.ids[start : start + len(mark)] == mark:
                found.add(question.family)
        assert found == families


def test_a_stream_keeps_to_its_levels() -> None:
    stream = stream_questions(
        Split.TEST, seed=0, families=["gcd"], level_weights=(0.0, 0.0, 1.0, *[0.0] * 5)
    )
    assert {question.level for question in islice(stream, 20)} == {2}


lengths_of = st.lists(st.integers(1, 70), max_size=80)


@settings(max_examples=100, deadline=None)
@given(
    lengths_of,
    st.sampled_from([1, 4, 16]),
    st.sampled_from([64, 100, 256]),
    st.sampled_from([45, 48]),
    st.integers(0, 9),
)
def test_batches_are_within_their_tokens_and_lose_only_what_does_not_fit(
    lengths: list[int], step: int, tokens: int, longest: int, seed: int
) -> None:
    rows = [TokenRow([n] * length, [1.0] * length) for n, length in enumerate(lengths)]
    batches = bucketed(rows, step=step, longest=longest, tokens=tokens, rng=Random(seed))
    kept: list[int] = []
    for length, group in batches:
        assert length % step == 0
        assert len(group) * length <= tokens < (len(group) + 1) * length
        assert all(length - step < len(row.ids) <= min(length, longest) for row in group)
        kept += [row.ids[0] for row in group]
    assert len(kept) == len(set(kept))
    lost = Counter(
        -(-len(row.ids) // step) * step
        for n, row in enumerate(rows)
        if n not in set(kept) and len(row.ids) <= longest
    )
    for length, count in lost.items():
        assert count < tokens // length
    again = bucketed(rows, step=step, longest=longest, tokens=tokens, rng=Random(seed))
    assert again == batches


def test_batches_come_in_random_order() -> None:
    rows = [TokenRow([n] * (n % 40 + 1), [1.0] * (n % 40 + 1)) for n in range(400)]
    batches = bucketed(rows, step=8, longest=40, tokens=80, rng=Random(0))
    lengths = [length for length, _ in batches]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_question_survives_the_tokenizer(
    tokenizer: Tokenizer, questions: list[Question], family: str
) -> None:
    for question in [q for q in questions if q.family == family][::10]:
        ids = tokenizer.encode(question.text, add_special_tokens=False)
        assert tokenizer.decode(ids) == question.text
