"""Invariant 10: cached decoding equals a full recompute with the gate on, token by token."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metacog.decode.prefixes import PrefixValues, Trace, prefix_values
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request, Segment
from tests.conftest import MakeModel
from tests.invariants.replies import (
    Prompts,
    answered,
    engine_logits,
    forced_logits,
    mixed_requests,
    settings,
    written,
)

TOLERANCE = 1e-4
Decoded = list[tuple[Generation, Tensor]]


@pytest.fixture(scope="module")
def decoded(tiny_model: MetacogModel, tiny_prompts: Prompts) -> Decoded:
    requests = mixed_requests(tiny_prompts, 10)
    return engine_logits(tiny_model, requests, settings())


def test_logits_at_every_step(tiny_model: MetacogModel, decoded: Decoded) -> None:
    forced = forced_logits(tiny_model, [reply for reply, _ in decoded])
    for (reply, cached), full in zip(decoded, forced, strict=True):
        assert len(cached) == len(reply.steps)
        torch.testing.assert_close(cached, full, atol=TOLERANCE, rtol=0)
        best = full.topk(2).values
        clear = best[:, 0] - best[:, 1] > TOLERANCE
        assert torch.equal(cached.argmax(-1)[clear], full.argmax(-1)[clear])
        assert clear.all(), "no tie is expected"


def test_the_gate_is_what_is_compared(tiny_model: MetacogModel, decoded: Decoded) -> None:
    """Without it the recompute differs, from the second thought on: the first is the base's."""
    thinking = [(reply, cached) for reply, cached in decoded if len(reply.think) > 1]
    ungated = replace(tiny_model, gate=None)
    forced = forced_logits(ungated, [reply for reply, _ in thinking])
    assert thinking
    for (_, cached), bare in zip(thinking, forced, strict=True):
        torch.testing.assert_close(cached[0], bare[0], atol=TOLERANCE, rtol=0)
    changed = [(c - b).abs().max() for (_, c), b in zip(thinking, forced, strict=True)]
    assert max(changed) > 100 * TOLERANCE


def test_stored_logprobs(tiny_model: MetacogModel, decoded: Decoded) -> None:
    forced = forced_logits(tiny_model, [reply for reply, _ in decoded])
    for (reply, _), full in zip(decoded, forced, strict=True):
        tokens = torch.tensor([[step.token] for step in reply.steps])
        expected = full.log_softmax(-1).gather(1, tokens).squeeze(1)
        kept = torch.tensor([step.logprob for step in reply.steps])
        torch.testing.assert_close(kept, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("site", ["mlp", "attention"])
def test_gates_at_other_sites(make_tiny_model: MakeModel, tiny_prompts: Prompts, site: str) -> None:
    model = make_tiny_model(site=site, switch="always")
    found = engine_logits(model, mixed_requests(tiny_prompts, 5), settings())
    forced = forced_logits(model, [reply for reply, _ in found])
    for (_, cached), full in zip(found, forced, strict=True):
        torch.testing.assert_close(cached, full, atol=TOLERANCE, rtol=0)


def greedy(prompt: tuple[int, ...], budget: int) -> Request:
    return Request(
        budget + 1, prompt, budget=budget, temperature=0.0, max_new_tokens=22, max_answer_tokens=5
    )


@pytest.fixture(scope="module")
def greedy_replies(
    tiny_model: MetacogModel, tiny_prompts: Prompts
) -> list[tuple[Generation, list[Generation]]]:
    """For each prompt the uncapped greedy reply, and those with THINK closed after every token."""
    found = []
    for prompt in tiny_prompts:
        uncapped = answered(tiny_model, [greedy(prompt, -1)], settings())[0]
        cuts = [greedy(prompt, cut) for cut in range(uncapped.budget.used + 1)]
        capped = answered(tiny_model, cuts, settings(rows=32))
        found.append((uncapped, [capped[request.id] for request in cuts]))
    return found


def trace_to(uncapped: Generation, answer: tuple[int, ...]) -> Trace:
    return Trace(uncapped.prompt, uncapped.think, answer, tuple(range(uncapped.budget.used + 1)))


def unaltered(reply: Generation) -> bool:
    """Whether no token of the answer was suppressed: prefixes know of no suppression."""
    return not any(s.altered for s in reply.steps if s.segment is Segment.ANSWER)


def test_prefixes_answer_as_the_engine_does_under_that_budget(
    tiny_model: MetacogModel, greedy_replies: list[tuple[Generation, list[Generation]]]
) -> None:
    right = wrong = 0
    for uncapped, capped in greedy_replies:
        for said in {reply.answer for reply in capped if unaltered(reply)}:
            values = prefix_values(tiny_model, [trace_to(uncapped, said)])[0]
            for reply, is_right in zip(capped, values.greedy.tolist(), strict=True):
                assert reply.think == uncapped.think[: reply.budget.used]
                if unaltered(reply):
                    assert is_right == (reply.answer == said)
                    right, wrong = right + is_right, wrong + (not is_right)
    assert right > 5
    assert wrong > 5


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_their_logprobs_are_those_of_a_full_recompute(
    tiny_model: MetacogModel,
    greedy_replies: list[tuple[Generation, list[Generation]]],
    temperature: float,
) -> None:
    """All traces in one padded pass against prompt, prefix, closer and answer on their own."""
    answer, close = (20, 31, 40), tiny_model.base.tags.think_close
    traces = [trace_to(uncapped, answer) for uncapped, _ in greedy_replies]
    values = prefix_values(tiny_model, traces, temperature=temperature)
    for trace, value in zip(traces, values, strict=True):
        whole = [
            written(
                trace.prompt,
                (Segment.THINK, trace.think[:cut]),
                (Segment.CLOSE, close),
                (Segment.ANSWER, answer),
            )
            for cut in trace.cuts
        ]
        torch.testing.assert_close(
            value.logprob, summed(tiny_model, whole, temperature), atol=TOLERANCE, rtol=1e-5
        )


def summed(model: MetacogModel, replies: list[Generation], temperature: float) -> Tensor:
    """The log-probability of each reply's answer."""
    totals = []
    for reply, logits in zip(replies, forced_logits(model, replies), strict=True):
        answer = torch.tensor(reply.answer).unsqueeze(1)
        behind = logits[-len(answer) :].clone()
        behind[:, [*model.base.tags.think_open, *model.base.tags.think_close]] = -torch.inf
        logprobs = (behind / temperature).log_softmax(-1)
        totals.append(logprobs.gather(1, answer).sum())
    return torch.stack(totals)


def test_they_are_the_same_alone_or_in_a_batch(
    tiny_model: MetacogModel, greedy_replies: list[tuple[Generation, list[Generation]]]
) -> None:
    traces = [trace_to(uncapped, (20, 31)) for uncapped, _ in greedy_replies]
    for trace, together in zip(traces, prefix_values(tiny_model, traces), strict=True):
        alone: PrefixValues = prefix_values(tiny_model, [trace])[0]
        torch.testing.assert_close(alone.logprob, together.logprob, atol=TOLERANCE, rtol=0)
        assert torch.equal(alone.greedy, together.greedy)
        for name in ("prompt_states", "cut_states", "close_states"):
            one, other = getattr(alone, name), getattr(together, name)
            torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=1e-5)
