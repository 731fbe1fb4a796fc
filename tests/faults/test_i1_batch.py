"""I1: a request is answered alike alone and among 200 others, and nothing leaks between them."""

from dataclasses import replace
from random import Random

import pytest

from metacog.decode.engine import EngineSettings
from metacog.decode.opening import OpeningSettings
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request
from tests.invariants.replies import answered, ids_of, settings

COUNT = 200
TOLERANCE = 1e-5
MOST = 24.0
"""The largest budget of the tiny layer."""
Prompts = tuple[tuple[int, ...], ...]


@pytest.fixture(scope="module")
def requests(tiny_prompts: Prompts) -> list[Request]:
    """Greedy requests of mixed prompts and limits under ids of no order."""
    ids = Random(0).sample(range(10_000), COUNT)
    budgets = (None, 0, 1, 7, -1, 12)
    return [
        Request(
            id=ids[index],
            prompt=tiny_prompts[index % len(tiny_prompts)],
            budget=budgets[(index // len(tiny_prompts)) % len(budgets)],
            temperature=0.0,
            max_new_tokens=20 + 4 * ((index // 30) % 4),
            max_answer_tokens=5,
        )
        for index in range(COUNT)
    ]


@pytest.fixture(scope="module")
def alone(tiny_model: MetacogModel, requests: list[Request]) -> dict[int, Generation]:
    """Each request without any neighbour; those that ask the same are decoded once."""
    found: dict[tuple[object, ...], Generation] = {}
    for request in requests:
        if terms_of(request) not in found:
            bare = replace(request, id=0)
            found[terms_of(request)] = answered(tiny_model, [bare], watched(rows=1))[0]
    return {request.id: found[terms_of(request)] for request in requests}


def terms_of(request: Request) -> tuple[object, ...]:
    return request.prompt, request.budget, request.max_new_tokens


def watched(rows: int) -> EngineSettings:
    """Settings under which every opinion and every token's gate figure is kept."""
    return settings(rows, telemetry=True, opening=OpeningSettings(telemetry=True))


@pytest.mark.parametrize(("seed", "rows"), [(0, 24), (1, COUNT)])
def test_two_hundred_shuffled_requests_at_once(
    tiny_model: MetacogModel,
    requests: list[Request],
    alone: dict[int, Generation],
    seed: int,
    rows: int,
) -> None:
    shuffled = Random(seed).sample(requests, COUNT)
    together = answered(tiny_model, shuffled, watched(rows))
    assert together.keys() == alone.keys()
    for request in requests:
        reply, wanted = together[request.id], alone[request.id]
        assert reply.prompt == request.prompt
        assert ids_of(reply) == ids_of(wanted)
        assert replace(reply.budget, revisions=()) == replace(wanted.budget, revisions=())
        assert [r.kind for r in reply.budget.revisions] == [r.kind for r in wanted.budget.revisions]
        assert reply.plan == wanted.plan
        assert read_again(reply) == read_again(wanted)
        assert numbers_of(reply) == pytest.approx(numbers_of(wanted), rel=TOLERANCE, abs=TOLERANCE)


def numbers_of(reply: Generation) -> list[float]:
    """All that reading, re-readings and gate say of a reply; budgets as shares of the largest."""
    reading, gate = reply.reading, reply.gate
    assert reading is not None
    assert gate is not None
    said = [reading.confidence, float(reading.budget), *reading.plan.values(), *reading.alpha]
    for expert in reading.per_layer:
        said += [*expert.plan, expert.budget / MOST, expert.confidence, expert.alpha]
    for step in reply.steps:
        if step.rereading is not None:
            said += [step.rereading.needed / MOST, step.rereading.ready, step.rereading.gain]
    acted = [gate.coverage, gate.norm, gate.saturation, *gate.per_token]
    return said + [-1.0 if number is None else number for number in acted]


def read_again(reply: Generation) -> list[int]:
    """After which tokens the layer read again."""
    return [step.index for step in reply.steps if step.rereading is not None]


def test_the_requests_do_differ(alone: dict[int, Generation]) -> None:
    """Else a leak would not show."""
    assert len({tuple(ids_of(reply)) for reply in alone.values()}) > 10
    confidences = {reply.reading and reply.reading.confidence for reply in alone.values()}
    assert len(confidences) > 5
    assert any(read_again(reply) for reply in alone.values())
    assert any(reply.gate and any(reply.gate.per_token) for reply in alone.values())
    assert all(reply.reading and reply.reading.per_layer for reply in alone.values())
