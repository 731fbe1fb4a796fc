"""What comes with the package: whole, loadable, and answering."""

import hashlib

import pytest

from benchmarks.unseen import UNSEEN, entries_of
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.places import BUNDLED
from metacog.records import UNFAMILIAR, Generation
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
def test_a_bundled_model_tells_its_own_families_from_others(name: str) -> None:
    model = load_model(name)
    seen = [question.text for question in draw_questions(Split.TEST, 160)]
    strange = [entry["question"] for family in UNSEEN for entry in entries_of(family, 8, 7)]
    familiar, other = (
        [reply.reading.familiarity for reply in answered(model, texts)] for texts in (seen, strange)
    )
    assert sum(value < UNFAMILIAR for value in familiar) <= 8
    assert sum(value < UNFAMILIAR for value in other) >= 0.9 * len(other)


def answered(model: MetacogModel, texts: list[str]) -> list[Generation]:
    """Return replies without a thought, which is enough for a reading."""
    requests = [
        request_for(
            model,
            tuple(render(model.base.tokenizer, [{"role": "user", "content": text}])),
            request_id=number,
            budget=0,
            seed=0,
        )
        for number, text in enumerate(texts)
    ]
    return list(Engine(model, engine_settings(model, rows=64)).generate(requests))


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
