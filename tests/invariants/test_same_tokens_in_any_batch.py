"""Invariant 3: a request's tokens depend on its seed alone, whoever decodes beside it."""

from dataclasses import replace

import pytest
import torch

from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.modulation import Modulation
from metacog.decode.opening import OpeningSettings
from metacog.decode.sampling import gumbel
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request, Step
from tests.invariants.replies import (
    Prompts,
    answered,
    forced_logits,
    ids_of,
    mixed_requests,
    settings,
)

TIE = 1e-4
"""Distance of the two best perturbed logits within which fp32 may choose either."""


@pytest.fixture(scope="module")
def requests(tiny_prompts: Prompts) -> list[Request]:
    return mixed_requests(tiny_prompts, 12)


@pytest.fixture(scope="module")
def alone(tiny_model: MetacogModel, requests: list[Request]) -> dict[int, Generation]:
    one = settings(rows=1)
    return {request.id: answered(tiny_model, [request], one)[request.id] for request in requests}


def streamed(
    model: MetacogModel, requests: list[Request], how: EngineSettings
) -> dict[int, list[int]]:
    tokens: dict[int, list[int]] = {request.id: [] for request in requests}
    ended = set()
    for event in Engine(model, how).stream(requests):
        if isinstance(event, Step):
            assert event.request_id not in ended
            assert event.index == len(tokens[event.request_id])
            tokens[event.request_id].append(event.token)
        else:
            ended.add(event.request_id)
            assert ids_of(event) == tokens[event.request_id]
    assert ended == set(tokens)
    return tokens


def is_tie(model: MetacogModel, request: Request, reply: Generation, other: list[int]) -> bool:
    """Say whether two replies part where the two tokens' perturbed logits lie within the rule.

    Top-p and penalties move logits further; no tie is granted there.
    """
    if request.top_p < 1 or request.repetition_penalty != 1:
        return False
    at = next(i for i, (a, b) in enumerate(zip(ids_of(reply), other, strict=False)) if a != b)
    logits = forced_logits(model, [reply])[0][at]
    keys = (torch.tensor([number]) for number in (request.seed, request.id, at))
    noise = gumbel(*keys, len(logits))[0]
    greedy = request.temperature == 0
    perturbed = logits if greedy else logits / request.temperature + noise
    return bool((perturbed[reply.steps[at].token] - perturbed[other[at]]).abs() <= TIE)


def same_but_for_ties(
    model: MetacogModel,
    requests: list[Request],
    alone: dict[int, Generation],
    other: dict[int, list[int]],
) -> int:
    """Return how many replies differ; each of them must be a tie."""
    differ = [request for request in requests if ids_of(alone[request.id]) != other[request.id]]
    for request in differ:
        assert is_tie(model, request, alone[request.id], other[request.id])
    return len(differ)


@pytest.mark.parametrize("rows", [3, 5, 12])
@pytest.mark.parametrize("turned", [False, True], ids=["in order", "turned round"])
def test_in_any_batch_and_order(
    tiny_model: MetacogModel,
    requests: list[Request],
    alone: dict[int, Generation],
    rows: int,
    turned: bool,
) -> None:
    ordered = requests[::-1] if turned else requests
    together = answered(tiny_model, ordered, settings(rows=rows))
    tokens = {key: ids_of(reply) for key, reply in together.items()}
    assert same_but_for_ties(tiny_model, requests, alone, tokens) == 0
    for key, reply in together.items():
        assert [s.segment for s in reply.steps] == [s.segment for s in alone[key].steps]
        assert [(s.sampled, s.altered) for s in reply.steps] == [
            (s.sampled, s.altered) for s in alone[key].steps
        ]
        assert reply.plan == alone[key].plan
        assert reply.budget.enforced == alone[key].budget.enforced
        assert reply.budget.close_reason is alone[key].budget.close_reason


@pytest.mark.parametrize("rows", [1, 3])
def test_streamed(
    tiny_model: MetacogModel, requests: list[Request], alone: dict[int, Generation], rows: int
) -> None:
    tokens = streamed(tiny_model, requests, settings(rows=rows))
    assert same_but_for_ties(tiny_model, requests, alone, tokens) == 0


def test_the_gate_covers_the_same_tokens_padded_or_alone(
    tiny_model: MetacogModel, requests: list[Request], alone: dict[int, Generation]
) -> None:
    together = answered(tiny_model, requests, settings())
    coverage = {key: reply.gate and reply.gate.coverage for key, reply in together.items()}
    assert coverage == {key: reply.gate and reply.gate.coverage for key, reply in alone.items()}
    thought = [value for value in coverage.values() if value is not None]
    assert 0 < sum(thought) < len(thought), "the switch is neither always on nor always off"


def test_a_modulated_sampler_too(
    tiny_model: MetacogModel, requests: list[Request], alone: dict[int, Generation]
) -> None:
    opening = OpeningSettings(
        modulation=Modulation(temperature_span=0.5, top_p_span=0.2, penalty_span=0.3)
    )
    some = requests[:6]
    one = {r.id: answered(tiny_model, [r], settings(1, opening=opening))[r.id] for r in some}
    together = answered(tiny_model, some[::-1], settings(4, opening=opening))
    assert {key: ids_of(r) for key, r in together.items()} == {
        key: ids_of(r) for key, r in one.items()
    }
    assert any(ids_of(one[r.id]) != ids_of(alone[r.id]) for r in some), "it does act"


def test_without_layer_and_gate_too(tiny_base_model: MetacogModel, tiny_prompts: Prompts) -> None:
    requests = [replace(request, plan=None) for request in mixed_requests(tiny_prompts, 6)]
    one = settings(rows=1)
    alone = {r.id: answered(tiny_base_model, [r], one)[r.id] for r in requests}
    together = answered(tiny_base_model, requests[::-1], settings(rows=4))
    tokens = {key: ids_of(reply) for key, reply in together.items()}
    assert same_but_for_ties(tiny_base_model, requests, alone, tokens) == 0


def test_seed_and_id_do_change_the_tokens(tiny_model: MetacogModel, tiny_prompts: Prompts) -> None:
    """Else equality above would prove nothing."""
    first = Request(1, tiny_prompts[0], budget=12, max_new_tokens=30, max_answer_tokens=6)
    variants = [first, replace(first, seed=1), replace(first, id=2)]
    replies = [answered(tiny_model, [v], settings(rows=1))[v.id] for v in variants]
    assert len({tuple(ids_of(reply)) for reply in replies}) == 3
