from pathlib import Path

import pytest

from metacog.config import RunConfig, load, parse
from metacog.errors import ConfigError, RunError
from metacog.model.bundle import load_model
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.run import train

RECIPES = Path(__file__).parents[3] / "recipes"
NAMES = sorted(path.name for path in RECIPES.glob("*.yaml"))
SMALL_BASE = (
    "run.steps=2",
    "run.warmup=0",
    "run.eval_interval=1",
    "run.objective.hidden_size=32",
    "run.objective.num_blocks=2",
    "run.objective.num_heads=2",
    "run.objective.mlp_size=48",
    "run.objective.batch_tokens=1024",
    "run.objective.chunk=200",
    "run.objective.vocabulary_questions=10",
    "run.objective.compiled=false",
)
SMALL_LAYER = (
    "data.num_prompts=12",
    "data.tasks=[chain_sum, count_bits]",
    "metacog.proj_dim=8",
    "budget.max_tokens=16",
    "budget.answer_reserve=6",
    "run.steps=2",
    "run.batch=4",
    "run.warmup=0",
    "run.eval_interval=1",
)


def test_there_are_recipes() -> None:
    assert {"nano.yaml", "nano-anneal.yaml", "layer.yaml", "run.yaml"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_and_names_local_things_only(name: str) -> None:
    config = load(RECIPES / name)
    assert config.data.tasks, "a shipped recipe reads no data set from the hub"
    assert not config.model.hub_push
    assert set(config.logging.sinks) <= {"jsonl", "console"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs(name: str, tiny_directory: Path, tmp_path: Path) -> None:
    path = RECIPES / name
    kind = load(path).run.objective.kind
    overrides = SMALL_BASE if kind == "pretrain" else (*SMALL_LAYER, f"model.path={tiny_directory}")
    if name == "nano-anneal.yaml":
        overrides = (*SMALL_BASE, f"run.objective.start={tiny_directory}")
    run = train(load(path, overrides), run_dir=tmp_path / "run")
    events = read_events(run.events)
    assert [e.step for e in events if e.kind is EventKind.EVAL] == [1, 2]
    assert next(e for e in events if e.kind is EventKind.METRICS).step == 2
    assert events[-1].kind is EventKind.STATUS
    assert events[-1].data["message"] == "done"
    if kind == "pretrain":
        assert load_model(run.path / "final").reader is None
    else:
        assert load_model(tiny_directory, layer=run.path / "final").reader is not None


@pytest.mark.parametrize("kind", ["gate", "imitate", "practice"])
def test_an_objective_that_cannot_be_run_is_a_mistake_in_the_recipe(
    kind: str, tmp_path: Path
) -> None:
    config = parse({"run": {"objective": {"kind": kind}}}, source="test")
    with pytest.raises(ConfigError, match=rf"pretrain, layer.*got {kind}.*run\.objective"):
        train(config, run_dir=tmp_path / "run")


def test_a_run_directory_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists"):
        train(RunConfig(), run_dir=tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
