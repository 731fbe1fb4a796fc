"""One pass over a finished reply says what the decoder said while it wrote it."""

import math

import pytest
import torch

from metacog.decode.engine import Engine
from metacog.decode.scoring import probability_of_true, score_replies
from metacog.decode.settings import engine_settings
from metacog.model.taps import taps
from metacog.records import Request, Segment


@pytest.fixture(scope="module")
def answered(tiny_model, tiny_prompts):
    requests = [
        Request(id=i, prompt=prompt, budget=-1, seed=i, max_new_tokens=40, max_answer_tokens=8)
        for i, prompt in enumerate(tiny_prompts)
    ]
    engine = Engine(tiny_model, engine_settings(tiny_model, revise=False, reread=False))
    replies = sorted(engine.generate(requests), key=lambda reply: reply.request_id)
    return replies, score_replies(tiny_model, replies, batch=3)


def test_the_answers_log_probabilities_are_the_decoders_with_the_gate_on(answered) -> None:
    for reply, scores in zip(*answered, strict=True):
        said = [step.logprob for step in reply.steps if step.segment is Segment.ANSWER]
        assert len(said) > 0
        # The decoder suppresses marks in ANSWER: its distribution is the same but for those.
        torch.testing.assert_close(scores.answer_logprob, torch.tensor(said), atol=2e-3, rtol=2e-3)


def test_every_column_is_as_long_as_its_tokens(answered) -> None:
    for reply, scores in zip(*answered, strict=True):
        assert len(scores.prompt_logprob) == len(reply.prompt) - 1
        assert len(scores.think_entropy) == len(reply.think) + 1
        assert len(scores.answer_entropy) == len(reply.answer)
        assert (scores.think_entropy >= 0).all()


def test_states_are_those_at_prompt_end_last_thought_and_closer(tiny_model, answered) -> None:
    replies, scores = answered
    reply, base = replies[0], tiny_model.base
    ids = torch.tensor([reply.prompt])
    mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    with taps(base.blocks) as tapped:
        base.hidden_states(ids, mask=mask, positions=torch.arange(ids.shape[1])[None])
    alone = tapped.at(torch.tensor([ids.shape[1] - 1]))[0]
    torch.testing.assert_close(scores[0].prompt_states, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores[0].close_states, scores[0].end_states)


def test_a_model_asked_again_says_a_probability_or_nothing(tiny_model, answered) -> None:
    replies, _ = answered
    said = probability_of_true(tiny_model, replies, asked="\n", words=("1", "2"))
    assert all(0 < value < 1 for value in said)
    turned = probability_of_true(tiny_model, replies, asked="\n", words=("2", "1"))
    assert turned == pytest.approx([1 - value for value in said], abs=1e-5)
    assert all(math.isnan(v) for v in probability_of_true(tiny_model, replies, words=("1", "1")))
