"""From a loaded model to what an evaluation needs of it: decoders, prompts, answers, values."""

from collections.abc import Callable, Iterable, Sequence

from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout, line_cuts, trace_of
from metacog.decode.engine import Engine
from metacog.decode.prefixes import prefix_values
from metacog.decode.settings import engine_settings, unmodulated
from metacog.eval.arms import Looking
from metacog.eval.rows import AnswerReader
from metacog.eval.runner import Decoder, Reply, Sampling, Setup, TraceValues
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request
from metacog.text.render import render


def setup_of(model: MetacogModel, *, rows: int = 128) -> Setup:
    """Return how a model is evaluated: at its own temperature and limits.

    Top-p, penalty and modulation stay out: a capped reply is to be the beginning of the uncapped one, and
    exact values of prefixes are of plain sampling.
    """
    base, decoding = model.base, model.decoding
    reserve = decoding.budget.answer_reserve
    sampling = Sampling(
        temperature=decoding.sampling.temperature,
        max_new_tokens=decoding.budget.max_tokens + len(base.tags.think_close) + reserve,
        max_answer_tokens=reserve,
    )

    def rendered(question: Question) -> Sequence[int]:
        return render(base.tokenizer, [{"role": "user", "content": question.text}])

    return Setup(
        decoders={looking: _decoder(model, looking, rows) for looking in Looking},
        render=rendered,
        reader=answer_reader(base),
        values=_values(model, sampling.temperature),
        sampling=sampling,
        values_batch=256,
    )


def answer_reader(base: Base) -> AnswerReader:
    """Return how answers of a base are read."""
    marks = [base.tags.think_open, base.tags.think_close]
    marks += [ids for tag in base.tags.marks.values() for ids in (*tag.opens, *tag.closes)]
    return AnswerReader(
        decode=lambda ids: base.decode(ids, with_control=True),
        end=base.tags.eos,
        tags=tuple(marks),
        close=base.tags.think_close,
    )


def _decoder(model: MetacogModel, looking: Looking, rows: int) -> Decoder:
    settings = unmodulated(
        engine_settings(
            model,
            rows=rows,
            revise=None if looking is Looking.ACTING else False,
            reread=looking is not Looking.AWAY,
        )
    )

    def decode(requests: Sequence[Request]) -> Iterable[Generation]:
        # Rows of like length run together: prompts first, since replies are not known yet.
        ordered = sorted(requests, key=lambda request: len(request.prompt))
        return Engine(model, settings).generate(ordered)

    return decode


def _values(
    model: MetacogModel, temperature: float
) -> Callable[[Sequence[Reply]], Sequence[TraceValues]]:
    def values(replies: Sequence[Reply]) -> Sequence[TraceValues]:
        rollouts = [Rollout(r.question, r.generation, correct=False) for r in replies]
        traces = [trace_of(rollout, model.base, every_token=True) for rollout in rollouts]
        found = prefix_values(model, traces, temperature=temperature)
        return [
            TraceValues(
                cuts=value.cuts,
                right=tuple(value.logprob.exp().clamp(0, 1).tolist()),
                answer_tokens=len(trace.answer),
                need=value.need_at(line_cuts(trace.think, model.base.tags.line_ends)),
            )
            for trace, value in zip(traces, found, strict=True)
        ]

    return values
