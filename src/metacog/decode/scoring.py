"""What the model itself thought of a finished reply: one forward pass over prompt and reply.

All that baselines of confidence and early exit look at comes from here, for the same replies and with
the same gate as everything they are compared with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.decode.prefixes import Trace, read_packed
from metacog.model.bundle import MetacogModel
from metacog.records import Generation

TRUE_OR_FALSE = "\nIs this answer right?"


@dataclass(frozen=True)
class ReplyScores:
    """Log-probabilities and entropies in nats, at temperature 1."""

    prompt_logprob: Float[Tensor, " prompt"]
    """Of every prompt token but the first."""
    think_entropy: Float[Tensor, " think"]
    """Of what would come next after 0, 1, 2, ... THINK tokens, the last of them the closer."""
    answer_logprob: Float[Tensor, " answer"]
    answer_entropy: Float[Tensor, " answer"]
    prompt_states: Float[Tensor, "layers hidden"]
    """At the last prompt token."""
    end_states: Float[Tensor, "layers hidden"]
    """At the last THINK token; the last prompt token's where there is none."""
    close_states: Float[Tensor, "layers hidden"]
    """At the closer."""


@torch.no_grad()
def score_replies(
    model: MetacogModel, replies: Sequence[Generation], *, batch: int = 64
) -> list[ReplyScores]:
    """Return what the model thought of replies, in their order.

    Args:
        model: The base, with layer and gate where it has them.
        replies: Each with prompt and THINK; an unfinished one may lack an answer.
        batch: Replies that run together.
    """
    order = sorted(range(len(replies)), key=lambda index: len(replies[index].steps))
    found: dict[int, ReplyScores] = {}
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        found |= zip(chosen, _scores(model, [replies[i] for i in chosen]), strict=True)
    return [found[index] for index in range(len(replies))]


def _scores(model: MetacogModel, replies: Sequence[Generation]) -> list[ReplyScores]:
    traces = [
        Trace(reply.prompt, reply.think, reply.answer, (len(reply.think),)) for reply in replies
    ]
    packed, hidden, tapped = read_packed(model, traces)
    found = []
    for row, trace in enumerate(traces):
        start, prompt, think = packed.starts[row], len(trace.prompt), len(trace.think)
        logprobs = model.base.unembed(hidden[row, start:]).log_softmax(-1)
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        ids = packed.ids[row, start:]
        said = logprobs[:-1].gather(-1, ids[1:, None]).squeeze(-1)
        closer = prompt + think + len(model.base.tags.think_close) - 1
        rows = torch.full((3,), row)
        states = tapped.gather(rows, start + torch.tensor([prompt - 1, prompt + think - 1, closer]))
        found.append(
            ReplyScores(
                prompt_logprob=said[: prompt - 1],
                think_entropy=entropy[prompt - 1 : prompt + think],
                answer_logprob=said[closer:],
                answer_entropy=entropy[closer:-1],
                prompt_states=states[0],
                end_states=states[1],
                close_states=states[2],
            )
        )
    return found


@torch.no_grad()
def probability_of_true(
    model: MetacogModel,
    replies: Sequence[Generation],
    *,
    asked: str = TRUE_OR_FALSE,
    words: tuple[str, str] = (" yes", " no"),
    batch: int = 64,
) -> list[float]:
    """Return P(yes) / (P(yes) + P(no)) after asking the model whether its answer is right.

    Kadavath et al. 2022, "Language models (mostly) know what they know", section 4, without examples.

    Args:
        model: The base, with layer and gate where it has them.
        replies: Their answers stay in place, without the end of the reply.
        asked: Follows the answer.
        words: The first token of each is what is compared.
        batch: Replies that run together.

    Returns:
        NaN for all where both words begin with the same token, or one of them with none.
    """
    encode, eos = model.base.encode, model.base.tags.eos
    yes, no = (encode(word)[:1] for word in words)
    if yes == no or not yes or not no:
        return [math.nan] * len(replies)
    found = []
    for start in range(0, len(replies), batch):
        traces = [
            Trace(r.prompt, r.think, _without_end(r.answer, eos) + encode(asked), (len(r.think),))
            for r in replies[start : start + batch]
        ]
        _, hidden, _ = read_packed(model, traces)
        logits = model.base.unembed(hidden[:, -1])
        found += (logits[:, yes[0]] - logits[:, no[0]]).sigmoid().tolist()
    return found


def _without_end(answer: tuple[int, ...], eos: frozenset[int]) -> tuple[int, ...]:
    return tuple(token for token in answer if token not in eos)
