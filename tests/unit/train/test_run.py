from importlib.util import find_spec
from pathlib import Path

import pytest

from metacog.config import RunConfig, load, parse
from metacog.config.model import DEFAULT_PLANS
from metacog.errors import ConfigError, ModelError, RunError
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.metacog import MetacogLayer
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.layer import layer_shape
from metacog.train.run import train
from tests.textdata import rows, write_jsonl

RECIPES = Path(__file__).parents[3] / "recipes"
TEXT = frozenset({"text.yaml", "text-qwen3.yaml"})
"""Recipes for a real base on a data set of the hub; they are run on rows of our own."""
NAMES = sorted(path.name for path in RECIPES.glob("*.yaml"))
NAMES.remove("adapt.yaml")  # a schedule: test_schedule.py
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
    assert config.data.tasks or name in TEXT, "what trains nano reads no data set from the hub"
    assert not config.model.hub_push
    assert set(config.logging.sinks) <= {"jsonl", "console"}


@pytest.fixture(scope="module")
def nano_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer with random weights for the bundled base, saved."""
    bare = MetacogModel(load_model("nano").base)
    layer = MetacogLayer(layer_shape(bare, RunConfig()))
    path = tmp_path_factory.mktemp("layer")
    bare.with_layer(layer, plans=DEFAULT_PLANS).save_layer(path)
    return path


def smaller(name: str, tiny: Path, layer: Path) -> tuple[str, ...]:
    """Return what makes a shipped recipe end in seconds."""
    objective = load(RECIPES / name).run.objective
    match objective.kind:
        case "pretrain":
            start = () if objective.start is None else (f"run.objective.start={tiny}",)
            return (*SMALL_BASE, *start)
        case (
            "gate" | "reread" | "practice"
        ):  # only a base that is right now and then gives it something to learn from
            small = ("budget.max_tokens=64", "run.batch=2", f"run.objective.layer_path={layer}")
            if name == "practice-qwen3.yaml":
                small = (*small, "model.path=nano", "adaptation.last_k=2")
            shapeless = [one for one in SMALL_LAYER if not one.startswith("metacog.")]
            return (*shapeless, *small)
        case _ if name in TEXT:
            rows_path = write_jsonl(layer.parent / "rows.jsonl", rows(60))
            less = [setting for setting in SMALL_LAYER if not setting.startswith("data.")]
            fewer = ("adaptation.last_k=2", "feedback.layer=1", "run.keep_last=1")
            return (*less, *fewer, f"model.path={tiny}", f"data.path={rows_path}")
        case _:
            return (*SMALL_LAYER, f"model.path={tiny}")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs(name: str, tiny_directory: Path, nano_layer: Path, tmp_path: Path) -> None:
    config = load(RECIPES / name, smaller(name, tiny_directory, nano_layer))
    kind = config.run.objective.kind
    run = train(config, run_dir=tmp_path / "run")
    events = read_events(run.events)
    assert [e.step for e in events if e.kind is EventKind.EVAL] == [1, 2]
    assert next(e for e in events if e.kind is EventKind.METRICS).step == 2
    assert events[-1].kind is EventKind.STATUS
    assert events[-1].data["message"] == "done"
    if kind == "pretrain":
        assert load_model(run.path / "final").reader is None
    elif config.adaptation.enabled and kind in {"practice", "imitate"}:
        found = load_model(run.path)
        assert found.reader is not None
        assert found.base.digest != load_model("nano").base.digest
    else:
        found = load_model(config.model.path, layer=run.path / "final")
        assert found.reader is not None
        assert (found.gate is not None) == (kind in {"gate", "imitate"})


@pytest.mark.parametrize("name", sorted(TEXT))
def test_a_recipe_for_text_streams_the_default_data_set(name: str) -> None:
    config = load(RECIPES / name)
    assert config.data.dataset == RunConfig().data.dataset == "glaiveai/reasoning-v1-20m"
    assert config.data.streaming
    assert config.data.path is None
    assert config.run.objective.kind == "imitate"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": {"kind": "practice"}}, r"practice goes on from a layer.*layer_path"),
        ({"objective": {"kind": "gate"}}, r"gate goes on from a layer.*run\.objective\.layer"),
        ({"objective": {"kind": "reread"}}, r"reread goes on from a layer.*run\.objective\.layer"),
        ({"grad_accum": 2}, r"no use for run\.grad_accum above 1.*run\.batch"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    settings: dict[str, object], message: str, tiny_directory: Path, tmp_path: Path
) -> None:
    given = {"model": {"path": str(tiny_directory)}, "data": {"tasks": ["gcd"]}, "run": settings}
    config = parse(given, source="test")
    with pytest.raises(ConfigError, match=message):
        train(config, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sink", ["wandb", "trackio"])
def test_a_tracker_that_is_not_there_is_refused_before_anything_is_written(
    sink: str, tiny_directory: Path, tmp_path: Path
) -> None:
    if find_spec(sink) is not None:
        pytest.skip(f"{sink} is installed")
    sinks = {"sinks": ["jsonl", sink]}
    given = {"model": {"path": str(tiny_directory)}, "data": {"tasks": ["gcd"]}, "logging": sinks}
    config = parse(given, source="test")
    with pytest.raises(ConfigError, match=rf"wanted {sink}.*metacog\[track\]"):
        train(config, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_base_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    given = {"model": {"path": str(tmp_path / "none")}, "data": {"tasks": ["gcd"]}}
    config = parse(given, source="test")
    with pytest.raises(ModelError, match="Wanted a bundled model"):
        train(config, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists"):
        train(parse({"data": {"tasks": ["gcd"]}}, source="test"), run_dir=tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
