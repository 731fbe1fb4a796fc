"""Turns questions with traces into token rows, whole or cut short as a budget would cut them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, stream_questions
from metacog.data.tasks.splits import Split
from metacog.data.tasks.traces import choose_plan, think
from metacog.text.render import render
from metacog.text.tags import THINK
from metacog.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenRow:
    """Token ids of one example and the weight of each as a training target."""

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class CorpusMix:
    """What a corpus of traces is made of."""

    family_weights: dict[str, float]
    level_weights: tuple[float, ...]
    cut_share: float
    """Share of rows whose thinking is cut short, closed and answered."""
    cut_at_line_share: float
    """Share of the cuts that lie at a line end; the others lie at any token."""
    direct_families: frozenset[str] | None
    """Families whose short traces may have the plan `direct`; None allows all."""
    cut_answer_weight: float
    """Weight of an answer token after a cut, where nothing else is trained."""


class Corpus:
    """An endless, seeded stream of token rows for training a base from scratch."""

    def __init__(self, tokenizer: Tokenizer, mix: CorpusMix, *, split: Split, seed: int) -> None:
        self._tokenizer = tokenizer
        self._mix = mix
        self._split = split
        self._seed = seed
        self._close = tokenizer.convert_tokens_to_ids(THINK.close)
        self._newline = tokenizer.convert_tokens_to_ids("\n")

    def chunk(self, index: int, size: int) -> list[TokenRow]:
        """Return rows of the chunk with this index: the same rows whenever it is asked for."""
        rng = Random(f"{self._seed}:{index}")
        questions = self._questions(rng, size)
        return [self.row(question, rng) for question in questions]

    def row(self, question: Question, rng: Random) -> TokenRow:
        """Return one example, its thinking whole or cut."""
        prompt = render(self._tokenizer, [{"role": "user", "content": question.text}])
        thought, weights = self._thought(question, rng)
        answer = [*self._encode(question.answer), self._tokenizer.eos_token_id]
        if rng.random() >= self._mix.cut_share:
            ids = [*prompt, *thought, self._close, *answer]
            return TokenRow(ids, [0.0] * len(prompt) + weights + [1.0] * (1 + len(answer)))
        kept = thought[: self._cut(thought, rng)]
        ids = [*prompt, *kept, self._close, *answer]
        untrained = len(ids) - len(answer)
        return TokenRow(ids, [0.0] * untrained + [self._mix.cut_answer_weight] * len(answer))

    def _questions(self, rng: Random, size: int) -> Iterator[Question]:
        names, weights = zip(*self._mix.family_weights.items(), strict=True)
        counts = rng.choices(names, weights, k=size)
        for name in FAMILIES:
            stream = stream_questions(
                self._split,
                seed=rng.getrandbits(48),
                families=[name],
                level_weights=self._mix.level_weights,
            )
            for _ in range(counts.count(name)):
                yield next(stream)

    def _thought(self, question: Question, rng: Random) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        allowed = self._mix.direct_families
        may_be_direct = allowed is None or question.family in allowed
        plan = choose_plan(question.lines, rng, may_be_direct=may_be_direct)
        for piece in think(question.lines, plan, rng):
            tokens = self._encode(piece.text)
            ids += tokens
            weights += [float(piece.trained)] * len(tokens)
        return ids, weights

    def _cut(self, thought: Sequence[int], rng: Random) -> int:
        if rng.random() >= self._mix.cut_at_line_share:
            return rng.randrange(len(thought) + 1)
        ends = [0, *(i + 1 for i, token in enumerate(thought) if token == self._newline)]
        return rng.choice(ends)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def bucketed(
    rows: Sequence[TokenRow], *, step: int, longest: int, tokens: int, rng: Random
) -> list[tuple[int, list[TokenRow]]]:
    """Group rows of like length into batches of about `tokens` tokens, in random order.

    Returns padded length and rows of each batch; lengths are multiples of `step`. Rows longer than
    `longest`, before padding, and rows that fill no batch are left out.
    """
    by_length: dict[int, list[TokenRow]] = {}
    for row in rows:
        length = -(-len(row.ids) // step) * step
        if len(row.ids) <= longest:
            by_length.setdefault(length, []).append(row)
    batches = []
    for length, group in sorted(by_length.items()):
        rng.shuffle(group)
        size = tokens // length
        whole = len(group) - len(group) % size
        batches += [(length, group[i : i + size]) for i in range(0, whole, size)]
    rng.shuffle(batches)
    return batches
