"""Invariants 9 and 10 where the closer is several ids: training gates what the engine gated."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metacog.decode.batch import Batch
from metacog.decode.budget import ControllerSettings, Landing
from metacog.decode.engine import EngineSettings
from metacog.model.bundle import MetacogModel
from metacog.records import CloseReason, Generation, Request, Segment
from metacog.train.gated import reply_batch
from tests.conftest import MakeModel
from tests.invariants.replies import Prompts, engine_logits, forced_logits, settings

TOLERANCE = 1e-4
CLOSER = 3
Decoded = list[tuple[Generation, Tensor]]


@pytest.fixture(scope="module")
def model(make_tiny_model: MakeModel) -> MetacogModel:
    """The closer is three ids that the model likes to say one after the other, and now and then not."""
    found = make_tiny_model(switch="always")
    base = found.base
    closer = base.encode("so 7")
    assert len(closer) == CLOSER
    with torch.no_grad():
        embedding = base.model.get_input_embeddings().weight
        states = base.model.base_model(torch.arange(len(embedding))[None]).last_hidden_state
        usual = torch.nn.functional.normalize(states[0].mean(0), dim=0)
        for index in closer:
            embedding[index] += 3.0 * usual
    return replace(found, base=replace(base, tags=replace(base.tags, think_close=closer)))


def requests(prompts: Prompts) -> Iterator[Request]:
    for index in range(120):
        yield Request(
            index,
            prompts[index % len(prompts)],
            budget=(-1, 1, 2, 3, 4, 5, 7, None)[index % 8],
            seed=index // 8,
            max_new_tokens=24,
            max_answer_tokens=4,
        )


HOW = settings(
    rows=40,
    controller=ControllerSettings(
        answer_reserve=6, landing=Landing(window=4, bias=6.0, text_ids=()), debug=True
    ),
)


@pytest.fixture(scope="module")
def decoded(model: MetacogModel, tiny_prompts: Prompts) -> Decoded:
    found: Decoded = []
    for asked in (list(requests(tiny_prompts))[:40], list(requests(tiny_prompts))[40:80]):
        found += engine_logits(model, asked, HOW)
    return found


def kind_of(reply: Generation) -> tuple[int, bool]:
    """How many of the closer's ids came by themselves, and whether THINK closed itself."""
    closer = [step for step in reply.steps if step.segment is Segment.CLOSE]
    return sum(s.sampled for s in closer), reply.budget.close_reason is CloseReason.NATURAL


def test_every_way_to_close_is_there(decoded: Decoded) -> None:
    """Forced whole, forced from within, and by an end of reply."""
    kinds = {kind_of(reply) for reply, _ in decoded}
    assert {(0, False), (1, False), (2, False), (1, True)} <= kinds


def test_logits_at_every_step(model: MetacogModel, decoded: Decoded) -> None:
    forced = forced_logits(model, [reply for reply, _ in decoded])
    for (reply, cached), full in zip(decoded, forced, strict=True):
        torch.testing.assert_close(
            cached, full, atol=TOLERANCE, rtol=0, msg=lambda m, r=reply: f"{kind_of(r)}: {m}"
        )


def test_what_is_gated_is_what_the_engine_gated(model: MetacogModel, tiny_prompts: Prompts) -> None:
    gated_alike(model, list(requests(tiny_prompts))[80:120], HOW)


@pytest.mark.parametrize("tail", [1, 2])
def test_a_wrap_up_text_that_ends_as_the_closer_begins(
    model: MetacogModel, tiny_prompts: Prompts, tail: int
) -> None:
    """It is text: gated and counted as THINK, and the closer comes whole behind it."""
    closer = model.base.tags.think_close
    text = (*model.base.encode("7"), *closer[:tail])
    landing = replace(HOW.controller, landing=Landing(window=4, bias=0.0, text_ids=text))
    how = replace(HOW, controller=landing)
    asked = [request for request in requests(tiny_prompts) if request.budget in {4, 5, 7}]
    wrapped = [r for r in gated_alike(model, asked, how) if r.think[-len(text) :] == text]
    assert len(wrapped) > 10
    for reply in wrapped:
        behind = [step for step in reply.steps if step.segment is Segment.CLOSE]
        assert [step.token for step in behind] == list(closer)
        assert not any(step.sampled for step in behind)
    decoded = engine_logits(model, asked[:40], how)
    forced = forced_logits(model, [reply for reply, _ in decoded])
    for (_, cached), full in zip(decoded, forced, strict=True):
        torch.testing.assert_close(cached, full, atol=TOLERANCE, rtol=0)


def gated_alike(model: MetacogModel, asked: list[Request], how: EngineSettings) -> list[Generation]:
    """Decode side by side; what training would gate must be what the engine gated."""
    rows = len(asked)
    batch = Batch(model, how, max(len(r.prompt) + r.max_new_tokens for r in asked), rows)
    batch.admit(asked)
    seen: dict[int, list[bool]] = {request.id: [] for request in asked}
    replies: list[Generation] = []
    while batch.running:
        batch.choose_tokens()
        for slot in range(batch.running):
            step = batch.rows.step(slot, int(batch.rows.index[slot]) - 1)
            seen[step.request_id].append(step.segment is Segment.THINK)
        replies += batch.retire()
        if batch.running:
            batch.forward()
    laid_out = reply_batch(replies, model.base.pad_id)
    for row, reply in enumerate(replies):
        acted = laid_out.gated[row, -len(reply.steps) :].tolist()
        assert acted == seen[reply.request_id], kind_of(reply)
        thought = laid_out.thinking[row].sum()
        assert int(thought) == reply.budget.used, "figures are of THINK alone"
    return replies
