"""What comes with the package: whole, loadable, and answering."""

import hashlib

import pytest

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.bundle import load_model
from metacog.model.places import BUNDLED
from metacog.text.render import render


@pytest.mark.parametrize("name", BUNDLED)
def test_every_file_is_as_its_hash_says(name: str) -> None:
    lines = (BUNDLED[name] / "HASH").read_text(encoding="utf-8").splitlines()
    named = dict(reversed(line.split()) for line in lines)
    there = {path.name for path in BUNDLED[name].iterdir()} - {"HASH"}
    assert set(named) == there
    for file, digest in named.items():
        assert hashlib.sha256((BUNDLED[name] / file).read_bytes()).hexdigest() == digest, file


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_answers_under_its_own_budget(name: str) -> None:
    model = load_model(name)
    assert model.reader is not None
    assert model.gate is not None
    assert model.reader.calibration.coverage_scale is not None  # fitted, not as trained
    text = "How many 1 bits are there in the binary representation of the number 300?"
    prompt = tuple(render(model.base.tokenizer, [{"role": "user", "content": text}]))
    request = request_for(model, prompt, request_id=1, budget=None, seed=0)
    (reply,) = Engine(model, engine_settings(model, rows=1)).generate([request])
    assert model.base.decode(reply.answer).strip() == "4"
    assert reply.budget.enforced is not None
    assert 0 < reply.budget.used <= reply.budget.enforced
