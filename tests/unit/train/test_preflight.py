from dataclasses import asdict
from pathlib import Path

import pytest

from metacog.config import RunConfig, parse
from metacog.errors import DataError, ModelError
from metacog.model.bundle import load_model
from metacog.train.memory import StepSize
from metacog.train.preflight import Preflight, preflight
from tests.textdata import rows, write_jsonl

SMALL = {
    "metacog": {"proj_dim": 8},
    "budget": {"max_tokens": 48, "answer_reserve": 8},
}


def configured(tiny: Path, data: dict[str, object], **objective: object) -> RunConfig:
    run = {"batch": 3, "learning_rate": 0.01, "objective": objective}
    document = {**SMALL, "model": {"path": str(tiny)}, "data": data, "run": run}
    return parse(document, source="test")


@pytest.fixture
def text(tiny_directory: Path, tmp_path: Path) -> Preflight:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(60))
    data = {"path": str(path), "shuffle_buffer": 1}
    return preflight(configured(tiny_directory, data, kind="imitate"))


def test_the_first_batch_comes_as_spans_in_order(text: Preflight) -> None:
    assert len(text.batch) == 3
    responses = {r["prompt"]: r["response"] for r in rows(60)}
    for row, length in zip(text.batch, text.lengths.batch, strict=True):
        parts = [(span.part, span.learned) for span in row]
        assert parts == [("prompt", False), ("think", True), ("close", True), ("answer", True)]
        prompt, *reply = (span.text for span in row)
        asked = prompt.removeprefix("<|user|>").removesuffix("<|assistant|><think>")
        assert f"<think>{''.join(reply)}" == f"{responses[asked]}<|end|>"
        assert sum(span.tokens for span in row) == length


def test_it_tells_what_learns_and_at_what_rate(text: Preflight, tiny_directory: Path) -> None:
    base = load_model(tiny_directory).base
    rates = {g.name: g.learning_rate for g in text.groups}
    assert rates == pytest.approx({"layer": 0.01, "gate": 0.01, "base": 0.05 * 0.01})
    assert all(g.parameters > 0 for g in text.groups)
    norms = next(g.parameters for g in text.groups if g.name == "base")
    assert text.frozen == sum(p.numel() for p in base.model.parameters()) - norms
    assert text.left_padding
    assert text.template_opens_think
    assert text.tags["think"] == (base.tags.think_open, base.tags.think_close)
    assert text.lengths.context == base.context
    learning = sum(g.parameters for g in text.groups)
    assert text.memory.weights == 4 * (text.frozen + learning)
    assert (text.memory.gradients, text.memory.optimizer) == (4 * learning, 8 * learning)
    assert text.memory.activations is not None


def test_it_names_the_data(text: Preflight, tmp_path: Path) -> None:
    (source,) = text.sources
    assert asdict(source) == {
        "name": str(tmp_path / "rows.jsonl"),
        "place": "local",
        "split": "train",
        "kind": "prompt/response",
        "domain": None,
        "weight": 1.0,
    }


def test_nothing_is_written(text: Preflight, tmp_path: Path) -> None:
    assert text.objective == "imitate"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_slips_in_generated_traces_show_as_not_learned(tiny_directory: Path) -> None:
    data = {"tasks": ["chain_sum"], "num_prompts": 40}
    config = configured(tiny_directory, data, kind="imitate")
    batch = config.run.model_copy(update={"batch": 30})
    found = preflight(config.model_copy(update={"run": batch}))
    thought = [span for row in found.batch for span in row if span.part == "think"]
    assert {span.learned for span in thought} == {True, False}
    assert found.sources == ()


def test_pretraining_shows_rows_and_both_groups() -> None:
    objective = {
        "kind": "pretrain",
        "hidden_size": 32,
        "num_blocks": 2,
        "num_heads": 2,
        "mlp_size": 48,
        "batch_tokens": 1024,
        "vocabulary_questions": 10,
    }
    found = preflight(parse({"run": {"objective": objective}}, source="test"))
    assert [group.name for group in found.groups] == ["matrices", "rest"]
    assert found.frozen == 0
    spans = [span for row in found.batch for span in row]
    assert {span.part for span in spans} == {"row"}
    assert {span.learned for span in spans} == {True, False}


@pytest.mark.parametrize("kind", ["layer", "gate"])
def test_objectives_on_rollouts_show_a_prompt_and_make_none(kind: str) -> None:
    document = {"model": {"path": "nano"}, "data": {"tasks": ["gcd"]}}
    config = parse({**document, "run": {"objective": {"kind": kind}}}, source="test")
    found = preflight(config)
    ((span,),) = found.batch
    assert (span.part, span.learned) == ("prompt", False)
    assert span.text.endswith("<think>")
    assert [group.name for group in found.groups] == [kind]
    assert found.memory.activations is None


REREADINGS = ["reread_heads", "reread_experts"]


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ({"kind": "imitate", "traces": "own"}, {"gate": ["project"]}),
        ({"kind": "practice"}, {"layer": [""], "gate": ["project"]}),
        ({"kind": "reread"}, {"layer": REREADINGS}),
        (
            {"kind": "reread", "budgets": True},
            {"layer": [*REREADINGS, "heads.budget", "experts.budget"]},
        ),
    ],
)
def test_what_learns_is_what_the_objective_teaches(
    objective: dict[str, object], told: dict[str, list[str]]
) -> None:
    document = {"adaptation": {"enabled": False}, "run": {"objective": objective}}
    found = preflight(parse(document, source="test"))
    model = load_model("nano")
    assert model.reader is not None
    assert model.gate is not None
    owner = {"layer": model.reader.layer, "gate": model.gate}
    whole = sum(p.numel() for m in (model.base.model, *owner.values()) for p in m.parameters())
    assert found.frozen + sum(group.parameters for group in found.groups) == whole
    assert {group.name: group.parameters for group in found.groups} == {
        name: sum(p.numel() for part in parts for p in owner[name].get_submodule(part).parameters())
        for name, parts in told.items()
    }


def test_what_a_run_would_refuse_is_refused(tiny_directory: Path, tmp_path: Path) -> None:
    data = {"path": str(tmp_path / "none.jsonl")}
    with pytest.raises(DataError, match="a file or folder at"):
        preflight(configured(tiny_directory, data, kind="imitate"))
    with pytest.raises(ModelError):
        preflight(configured(tmp_path / "none", data, kind="imitate"))


def test_activations_are_counted_by_the_formula() -> None:
    step = StepSize(tokens=10, learned=3, blocks=2, hidden=4, mlp=8, vocabulary=100)
    assert step.activations == 4 * (10 * 2 * (10 * 4 + 4 * 8) + 3 * 3 * 100)
