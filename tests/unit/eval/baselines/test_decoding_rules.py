"""Rules that decode: trial answers along a reply, and votes."""

import math

import numpy as np
import pytest

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings
from metacog.eval.baselines import deer, self_consistency
from metacog.eval.evidence import collect_evidence
from metacog.records import Request, Segment
from tests.unit.eval.evidence import replies
from tests.unit.eval.hand import question_of


def test_thinking_stops_at_the_first_trial_that_is_sure_enough() -> None:
    confidence = np.full((2, 11), np.nan)
    confidence[0, [3, 6]] = 0.7, 0.95
    confidence[1, 4] = 0.5
    found, trials = (
        replies([10, 8]),
        deer.Trials(confidence, np.where(np.isnan(confidence), 0.0, 3.0)),
    )
    assert deer.stop(found, trials, 0.9).tolist() == [6, 8]
    assert deer.stop(found, trials, 0.6).tolist() == [3, 8]
    assert deer.stop(found, trials, 0.4).tolist() == [3, 4]
    assert deer.cost(trials, deer.stop(found, trials, 0.6)).tolist() == [3, 3]
    assert deer.cost(trials, deer.stop(found, trials, 0.9)).tolist() == [6, 3]
    threshold = deer.threshold_for(found, trials, 7.0)
    assert deer.stop(found, trials, threshold).mean() == 7


def test_a_trial_is_what_the_base_answers_from_that_line_end(tiny_base_model) -> None:
    questions = [question_of("gcd", level) for level in range(3)]
    found = collect_evidence(tiny_base_model, questions, (0,))
    found.line_end[:] = False
    found.line_end[:, 2] = found.natural >= 2
    trials = deer.trial_answers(tiny_base_model, found)
    row = int(np.argmax(found.line_end[:, 2]))
    prompt = (*found.prompt[row], *found.think[row][:2])
    request = Request(id=0, prompt=prompt, budget=0, temperature=0.0, max_answer_tokens=32)
    (reply,) = Engine(
        tiny_base_model, engine_settings(tiny_base_model, revise=False, reread=False)
    ).generate([request])
    logprobs = [step.logprob for step in reply.steps if step.segment is Segment.ANSWER]
    assert trials.confidence[row, 2] == pytest.approx(math.exp(np.mean(logprobs)), rel=1e-3)
    assert trials.tokens[row, 2] == trials.tokens[row].sum() == len(reply.answer)
    assert np.isnan(trials.confidence[row, 3])


def test_the_majority_wins_and_silence_never_does() -> None:
    assert self_consistency.majority(["7", "5", "5"]) == "5"
    assert self_consistency.majority(["7", "5", "3"]) == "7"
    assert self_consistency.majority(["", "", "3"]) == "3"
    assert self_consistency.majority(["", ""]) == ""


def test_the_cap_lets_all_votes_together_spend_what_one_reply_may() -> None:
    found = replies([10, 4])  # answers of 2 tokens
    assert self_consistency.cap_for(found, 21.0) == pytest.approx(6.0, abs=0.01)  # 3 (5 + 2)


def test_one_vote_is_one_reply_under_the_cap(tiny_base_model) -> None:
    questions = [question_of("gcd", level) for level in range(3)]
    voted = self_consistency.run(tiny_base_model, questions, 4.0, votes=1)
    found = self_consistency.run(tiny_base_model, questions, 4.0, votes=3)
    assert voted.spend <= found.spend
    free = collect_evidence(tiny_base_model, questions, (0,))
    assert voted.spend <= (np.minimum(free.natural, 4) + 32).mean()
