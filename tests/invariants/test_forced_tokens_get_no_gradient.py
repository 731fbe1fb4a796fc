"""Invariant 5: only tokens that the model chose by itself are learned from, and counted."""

import pytest
import torch
from torch import Tensor

from metacog.decode.opening import OpeningSettings
from metacog.decode.sampling import gumbel
from metacog.losses.answer import answer_loss
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request, Segment, Step
from metacog.train.gated import gated, read_prompts, reply_batch, reply_logits
from tests.invariants.replies import Prompts, answered, forced_logits, settings


@pytest.fixture(scope="module")
def replies(tiny_model: MetacogModel, tiny_prompts: Prompts) -> list[Generation]:
    """Replies with marks and closers that were forced, and ends that became closers."""
    marks = {"verify": tiny_model.base.encode("1\n")}
    how = settings(opening=OpeningSettings(inject_plan=True, plan_marks=marks))
    requests = [
        Request(
            id=index,
            prompt=tiny_prompts[index % len(tiny_prompts)],
            budget=(4, -1, 9)[index % 3],
            plan="verify" if index % 2 else "outline",
            max_new_tokens=24,
            max_answer_tokens=5,
        )
        for index in range(15)
    ]
    return list(answered(tiny_model, requests, how).values())


@pytest.fixture(scope="module")
def steps(replies: list[Generation]) -> list[Step]:
    return [step for reply in replies for step in reply.steps]


@pytest.fixture(scope="module")
def chosen(steps: list[Step]) -> Tensor:
    """Tokens that the model chose from its own logits."""
    return torch.tensor([step.sampled and not step.altered for step in steps])


def test_there_is_something_to_leave_out(steps: list[Step]) -> None:
    assert any(not step.sampled for step in steps)
    assert any(step.sampled and step.altered for step in steps)
    assert not any(step.altered for step in steps if not step.sampled)


def test_altered_is_what_the_model_would_not_have_written(
    tiny_model: MetacogModel, replies: list[Generation]
) -> None:
    """The best perturbed token, worked out anew, is the one that came, or the step says altered."""
    ends = 0
    for reply, logits in zip(replies, forced_logits(tiny_model, replies), strict=True):
        count = len(reply.steps)
        keys = (torch.zeros(count), torch.full((count,), reply.request_id), torch.arange(count))
        noise = gumbel(*(key.long() for key in keys), logits.shape[1])
        for step, free in zip(reply.steps, (logits + noise).argmax(-1).tolist(), strict=True):
            if step.sampled:
                assert step.altered == (step.token != free)
                ends += step.segment is Segment.CLOSE and free in tiny_model.base.tags.eos
    assert ends, "an end of reply inside THINK became the closer"


def test_gradients_reach_chosen_tokens_alone(
    tiny_model: MetacogModel, replies: list[Generation], steps: list[Step], chosen: Tensor
) -> None:
    batch = reply_batch(replies, tiny_model.base.pad_id)
    with (
        torch.no_grad(),
        gated(tiny_model, read_prompts(tiny_model, batch.prompts), batch.gated),
    ):
        logits, tokens, trained = reply_logits(tiny_model, batch)
    assert tokens.tolist() == [step.token for step in steps]
    assert torch.equal(trained, chosen)
    logits.requires_grad_()
    answer_loss(logits, tokens, trained).mean().backward()
    assert logits.grad is not None
    assert not logits.grad[~chosen].any()
    assert logits.grad[chosen].any(dim=-1).all()


def test_the_loss_is_the_mean_over_chosen_tokens(
    tiny_model: MetacogModel, replies: list[Generation], steps: list[Step], chosen: Tensor
) -> None:
    """Against the log-probabilities that the engine kept while it decoded."""
    batch = reply_batch(replies, tiny_model.base.pad_id)
    with (
        torch.no_grad(),
        gated(tiny_model, read_prompts(tiny_model, batch.prompts), batch.gated),
    ):
        report = answer_loss(*reply_logits(tiny_model, batch))
    logprobs = torch.tensor([step.logprob for step in steps])
    assert int(report.count) == int(chosen.sum()) < len(steps)
    torch.testing.assert_close(report.mean(), -logprobs[chosen].mean(), atol=1e-4, rtol=0)


def test_no_chosen_token_is_no_loss(tiny_model: MetacogModel) -> None:
    logits = torch.randn(3, tiny_model.base.vocabulary, requires_grad=True)
    report = answer_loss(logits, torch.tensor([1, 2, 3]), torch.zeros(3, dtype=torch.bool))
    report.mean().backward()
    assert int(report.count) == 0
    assert report.values() == {}
    assert logits.grad is not None
    assert not logits.grad.any()
