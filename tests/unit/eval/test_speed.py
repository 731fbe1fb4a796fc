"""Speeds are ratios of the same work: what counts as a token, and who is run against whom."""

import pytest
import torch

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings
from metacog.eval.speed import (
    Pair,
    _longest,
    _written,
    continuous_run,
    decode_speeds,
    engine_run,
    generate_run,
    paired,
    workload,
)
from metacog.model.bundle import MetacogModel, load_model


@pytest.fixture(scope="module")
def nano() -> MetacogModel:
    return load_model("nano")


def test_tokens_count_up_to_the_end_of_each_reply(nano: MetacogModel) -> None:
    (end, *_) = sorted(nano.base.tags.eos)
    pad = nano.base.pad_id
    rows = torch.tensor([[7, 8, end, pad], [end, 7, 8, 9], [7, 8, 9, 10]])
    assert _written(rows, nano.base) == 3 + 1 + 4


def test_engine_and_generate_are_given_the_same_prompts_and_limits(nano: MetacogModel) -> None:
    bare = MetacogModel(nano.base, decoding=nano.decoding)
    requests = workload(nano, 6, max_new_tokens=90)
    assert len({request.prompt for request in requests}) == 6
    settings = engine_settings(bare, rows=3, revise=False)
    replies = list(Engine(bare, settings).generate(requests))
    assert engine_run(bare, settings, requests)() == sum(len(reply.steps) for reply in replies)
    torch.manual_seed(0)
    written = generate_run(nano.base, requests, rows=4)()
    assert 6 <= written <= 6 * 90


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_continuous_batching_answers_all_of_them(nano: MetacogModel) -> None:
    requests = workload(nano, 5, max_new_tokens=12)
    torch.manual_seed(0)
    written = continuous_run(nano.base, requests, rows=2)()
    assert 5 <= written <= 5 * 12


def test_a_ratio_is_taken_pair_by_pair_after_a_run_each_to_warm_up() -> None:
    called: list[str] = []

    def contender(name: str, tokens: int) -> int:
        called.append(name)
        return tokens

    pairs = paired(lambda: contender("ours", 10), lambda: contender("peer", 10), pairs=2)
    assert called == ["ours", "peer"] * 3
    assert all(pair.ours > 0 and pair.peer > 0 for pair in pairs)
    assert Pair(30.0, 20.0).ratio == 1.5


def test_long_replies_are_those_that_are_decoded_alone(nano: MetacogModel) -> None:
    bare = MetacogModel(nano.base, decoding=nano.decoding)
    requests = workload(nano, 16, max_new_tokens=120)
    settings = engine_settings(bare, rows=8, revise=False)
    lengths = {r.request_id: len(r.steps) for r in Engine(bare, settings).generate(requests)}
    chosen = _longest(bare, settings, requests, 2)
    assert len(chosen) == 2
    longest = sorted(lengths.values())[-8:]
    assert all(lengths[request.id] in longest for request in chosen)


def test_every_figure_comes_with_its_runs(nano: MetacogModel) -> None:
    found = dict(decode_speeds(nano, prompts=8, rows=4, alone=1, pairs=1, max_new_tokens=40))
    names = ("speedup_batch", "speedup_single", "metacog_overhead")
    assert set(found) == {*names, *(f"{name}_tokens_per_s" for name in names)}
    for name in names:
        ((ours, peer),) = found[f"{name}_tokens_per_s"]
        assert found[name] == pytest.approx(ours / peer, rel=0.01)
    bare = MetacogModel(nano.base, decoding=nano.decoding)
    alone = dict(decode_speeds(bare, prompts=8, rows=4, alone=1, pairs=1, max_new_tokens=40))
    assert "metacog_overhead" not in alone
