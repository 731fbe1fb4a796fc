"""Uncapped replies with everything that is known of them: what the cheap rows are made of.

One rollout a question and seed, valued after every token, feeds the rows on budgets, confidence and
aggregation, and the baselines they are compared with.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, score
from metacog.decode.collect import Rollout, line_cuts, said, trace_of
from metacog.decode.engine import Engine
from metacog.decode.prefixes import prefix_values
from metacog.decode.scoring import ReplyScores, probability_of_true, score_replies
from metacog.decode.settings import engine_settings, request_for, unmodulated
from metacog.decode.terms import NO_LIMIT
from metacog.eval.runner import request_id
from metacog.model.bundle import MetacogModel
from metacog.records import CloseReason, Generation
from metacog.text.render import render
from metacog.text.tags import EVAL

_FAMILIES = tuple(FAMILIES)
OPERANDS = 8
"""Numbers of a question that count as its operands."""
_WAVE = 512


@dataclass(frozen=True)
class Evidence:
    """A row for every uncapped reply; what is not known is NaN."""

    question: ndarray
    """Id of the question, as text."""
    text: ndarray
    """The question."""
    prompt: ndarray
    """Ids of the rendered prompt, a tuple a row."""
    think: ndarray
    """Ids of THINK, a tuple a row."""
    seed: Int[ndarray, " rows"]
    family: Int[ndarray, " rows"]
    """Place among `FAMILIES`."""
    level: Int[ndarray, " rows"]
    operands: Float[ndarray, "rows operands"]
    """Numbers of the question in order, NaN behind the last one."""
    prompt_tokens: Float[ndarray, " rows"]
    natural: Float[ndarray, " rows"]
    """THINK tokens."""
    need: Float[ndarray, " rows"]
    """NaN where the best answer at its end is wrong, or it did not close by itself."""
    correct: Bool[ndarray, " rows"]
    """The reply as it was."""
    right: Float[ndarray, "rows tokens"]
    """Probability of a right answer if THINK closed after 0, 1, 2, ... tokens; beyond the natural end
    as there."""
    line_end: Bool[ndarray, "rows tokens"]
    """Whether the THINK token before this place ends a line."""
    check_mark: Bool[ndarray, "rows tokens"]
    """Whether the THINK token before this place closes a check."""
    entropy: Float[ndarray, "rows tokens"]
    """Of the token that comes next, in nats."""
    prompt_logprob: Float[ndarray, " rows"]
    """Mean over the prompt's tokens."""
    answer_logprob: Float[ndarray, " rows"]
    """Sum over the answer's tokens."""
    answer_entropy: Float[ndarray, " rows"]
    """Mean over the answer's tokens."""
    answer_tokens: Float[ndarray, " rows"]
    p_true: Float[ndarray, " rows"]
    """What the model says when it is asked whether its answer is right; NaN where it has no words."""
    prompt_states: Float[ndarray, "rows layers hidden"]
    end_states: Float[ndarray, "rows layers hidden"]
    """At the last THINK token."""
    close_states: Float[ndarray, "rows layers hidden"]

    def __len__(self) -> int:
        return len(self.seed)

    @property
    def end(self) -> Int[ndarray, " rows"]:
        """Natural length as a place in the tables."""
        return self.natural.astype(np.int64)

    def at(self, chosen: ndarray) -> "Evidence":
        """Return some of the rows."""
        return Evidence(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def right_at(self, stop: Float[ndarray, " rows"]) -> Float[ndarray, " rows"]:
        """Return the probability of a right answer if THINK closed after some whole tokens."""
        places = np.minimum(stop, self.natural).astype(np.int64)
        found: Float[ndarray, " rows"] = self.right[np.arange(len(self)), places]
        return found


def collect_evidence(
    model: MetacogModel,
    questions: Sequence[Question],
    seeds: Sequence[int],
    *,
    rows: int = 128,
    progress: Callable[[int], None] | None = None,
) -> Evidence:
    """Let a model answer without a budget, and keep all that is known of its replies.

    Args:
        model: The base, with layer and gate where it has them.
        questions: Distinct ones.
        seeds: Sampling seeds; each asks every question once.
        rows: Replies that are decoded side by side.
        progress: Told how many replies were made, after each wave of them.
    """
    parts = []
    for seed in seeds:
        for start in range(0, len(questions), _WAVE):
            wave = questions[start : start + _WAVE]
            rollouts = _roll_out(model, wave, seed, rows)
            parts.append(_rows(model, rollouts, seed))
            if progress is not None:
                progress(len(wave))
    return joined(parts)


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Return the rows of all parts, tables as wide as the widest."""
    width = max(part.right.shape[1] for part in parts)
    wide = [
        replace(
            part,
            right=_widened(part.right, width),
            line_end=_padded(part.line_end, width),
            check_mark=_padded(part.check_mark, width),
            entropy=_widened(part.entropy, width),
        )
        for part in parts
    ]
    return Evidence(
        **{f.name: np.concatenate([getattr(p, f.name) for p in wide]) for f in fields(Evidence)}
    )


def operands_of(text: str) -> list[float]:
    """Return the numbers of a question in order, NaN where there are fewer than `OPERANDS`."""
    found = [float(number) for number in re.findall(r"\d+", text)[:OPERANDS]]
    return found + [math.nan] * (OPERANDS - len(found))


def _roll_out(
    model: MetacogModel, questions: Sequence[Question], seed: int, rows: int
) -> list[Rollout]:
    asked = {request_id(question): question for question in questions}
    requests = [
        request_for(
            model,
            tuple(render(model.base.tokenizer, [{"role": "user", "content": q.text}])),
            request_id=number,
            budget=NO_LIMIT,
            seed=seed,
        )
        for number, q in asked.items()
    ]
    plain = [replace(r, top_p=1.0, repetition_penalty=1.0) for r in requests]
    settings = unmodulated(engine_settings(model, rows=rows, revise=False, reread=False))
    replies: Iterable[Generation] = Engine(model, settings).generate(
        sorted(plain, key=lambda request: len(request.prompt))
    )
    found = [
        Rollout(q, reply, score(q, said(reply, model.base)))
        for reply in replies
        for q in (asked[reply.request_id],)
    ]
    return sorted(found, key=lambda rollout: rollout.question.id)


def _rows(model: MetacogModel, rollouts: Sequence[Rollout], seed: int) -> Evidence:
    traces = [trace_of(rollout, model.base, every_token=True) for rollout in rollouts]
    values = prefix_values(model, traces, temperature=model.decoding.sampling.temperature)
    scores = score_replies(model, [rollout.generation for rollout in rollouts])
    thinks = [trace.think for trace in traces]
    width = max(len(think) for think in thinks) + 1
    right = [value.logprob.exp().clamp(0, 1).numpy() for value in values]
    ends = model.base.tags.line_ends
    checks = model.base.tags.marks.get(EVAL.name)
    questions = [rollout.question for rollout in rollouts]
    needs = [
        _need(rollout, value.need_at(line_cuts(think, ends)))
        for rollout, value, think in zip(rollouts, values, thinks, strict=True)
    ]
    return Evidence(
        question=np.array([q.id for q in questions]),
        text=np.array([q.text for q in questions], dtype=object),
        prompt=_tuples([trace.prompt for trace in traces]),
        think=_tuples(thinks),
        seed=np.full(len(rollouts), seed),
        family=np.array([_FAMILIES.index(q.family) for q in questions]),
        level=np.array([q.level for q in questions]),
        operands=np.array([operands_of(q.text) for q in questions]),
        prompt_tokens=np.array([float(len(r.generation.prompt)) for r in rollouts]),
        natural=np.array([float(len(think)) for think in thinks]),
        need=np.array(needs),
        correct=np.array([rollout.correct for rollout in rollouts]),
        right=np.stack([_widened(line[None], width)[0] for line in right]),
        line_end=np.stack([_after(think, {(end,) for end in ends}, width) for think in thinks]),
        check_mark=np.stack(
            [_after(think, () if checks is None else checks.closes, width) for think in thinks]
        ),
        entropy=np.stack([_widened(s.think_entropy.numpy()[None], width)[0] for s in scores]),
        prompt_logprob=_means([s.prompt_logprob for s in scores]),
        answer_logprob=np.array([float(s.answer_logprob.sum()) for s in scores]),
        answer_entropy=_means([s.answer_entropy for s in scores]),
        answer_tokens=np.array([float(len(s.answer_logprob)) for s in scores]),
        p_true=np.array(probability_of_true(model, [r.generation for r in rollouts])),
        **_states(scores),
    )


def _states(scores: Sequence[ReplyScores]) -> dict[str, Float[ndarray, "rows layers hidden"]]:
    names = ("prompt_states", "end_states", "close_states")
    return {name: np.stack([getattr(s, name).half().numpy() for s in scores]) for name in names}


def _need(rollout: Rollout, need: int | None) -> float:
    natural = rollout.generation.budget.close_reason is CloseReason.NATURAL
    return float(need) if natural and need is not None else math.nan


def _after(
    think: tuple[int, ...], marks: Collection[tuple[int, ...]], width: int
) -> Bool[ndarray, " tokens"]:
    """Return which places come right behind one of the marks."""
    found = np.zeros(width, dtype=bool)
    sizes = {len(mark) for mark in marks}
    for end in range(1, len(think) + 1):
        found[end] = any(think[max(0, end - size) : end] in marks for size in sizes)
    return found


def _means(columns: Sequence[torch.Tensor]) -> Float[ndarray, " rows"]:
    return np.array([float(column.mean()) if len(column) else math.nan for column in columns])


def _tuples(found: Sequence[tuple[int, ...]]) -> ndarray:
    """Return tuples of different lengths as one column."""
    column = np.empty(len(found), dtype=object)
    column[:] = found
    return column


def _widened(table: Float[ndarray, "rows tokens"], width: int) -> Float[ndarray, "rows wider"]:
    """Return a table whose rows go on as they end."""
    return np.pad(table, ((0, 0), (0, width - table.shape[1])), mode="edge")


def _padded(table: Bool[ndarray, "rows tokens"], width: int) -> Bool[ndarray, "rows wider"]:
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))
