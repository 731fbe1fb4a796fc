"""Adapters of other kinds on the rows of the gate."""

import pytest
import torch
from peft import LoraConfig

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.train import rivals
from metacog.train.rivals import KINDS, Rows, train_rival


@pytest.fixture(scope="module")
def rows(tiny_base_model: MetacogModel, tiny_prompts: tuple[tuple[int, ...], ...]) -> Rows:
    requests = [
        Request(number, prompt, budget=6, seed=1, temperature=0.6, top_p=1.0, max_new_tokens=20)
        for number, prompt in enumerate(tiny_prompts)
    ]
    settings = engine_settings(tiny_base_model, rows=4)
    replies = list(Engine(tiny_base_model, settings).generate(requests))
    return Rows(replies, replies[:4], steps=8, batch=4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rival_learns_its_rows_and_leaves_the_base_alone(
    kind: str, rows: Rows, tiny_model: MetacogModel
) -> None:
    before = {name: t.clone() for name, t in tiny_model.base.model.state_dict().items()}
    rates = (0.0, 0.01)
    found = train_rival(tiny_model, kind, rows, rates=rates)
    still = rivals._validate(MetacogModel(tiny_model.base, decoding=tiny_model.decoding), rows)
    assert found.rate == 0.01
    assert found.loss < still - 1e-3
    # What is returned is a plain model that is as good as the one that was trained.
    assert rivals._validate(found.model, rows) == pytest.approx(found.loss, abs=1e-4)
    names = [name for name, _ in found.model.base.model.named_parameters()]
    assert names == [name for name, _ in tiny_model.base.model.named_parameters()]
    assert (found.model.gate, found.model.reader) == (None, None)
    after = tiny_model.base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], t) for name, t in before.items())


def test_lora_is_as_large_as_the_gate(tiny_model: MetacogModel) -> None:
    assert tiny_model.gate is not None
    config = KINDS["lora"](tiny_model.base, tiny_model.gate)
    assert isinstance(config, LoraConfig)
    wanted = sum(p.numel() for p in tiny_model.gate.parameters())
    sizes = [
        config.r * (m.in_features + m.out_features)
        for name, m in tiny_model.base.model.named_modules()
        if name in config.target_modules
    ]
    assert sum(sizes) == pytest.approx(wanted, rel=0.2)
