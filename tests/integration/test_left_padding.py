"""Left padding from start to end: no padding warning anywhere, and no run on right padding."""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from metacog.config import load
from metacog.decode.answering import ThinkingModel
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.errors import ModelError
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.run import train
from tests.integration.test_what_a_run_shows import small

RECIPES = Path(__file__).parents[2] / "recipes"
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


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def everything_said() -> Iterator[list[str]]:
    """Collect warnings and log messages of all libraries; transformers' do not reach the root."""
    kept, loggers = Kept(), [logging.getLogger(), logging.getLogger("transformers")]
    for logger in loggers:
        logger.addHandler(kept)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield kept.messages
            kept.messages += [str(warning.message) for warning in caught]
    finally:
        for logger in loggers:
            logger.removeHandler(kept)


def of_padding(messages: list[str]) -> list[str]:
    return [message for message in messages if "padd" in message.lower()]


def right_padding(tiny: Path, target: Path) -> Path:
    shutil.copytree(tiny, target)
    file = target / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**settings, "padding_side": "right"}), encoding="utf-8")
    return target


def test_training_and_decoding_cause_no_padding_warning(
    tiny_directory: Path, tiny_model: MetacogModel, tmp_path: Path
) -> None:
    with everything_said() as messages:
        run = train(small(tiny_directory), run_dir=tmp_path / "run")
        layer = load(RECIPES / "layer.yaml", [*SMALL_LAYER, f"model.path={tiny_directory}"])
        train(layer, run_dir=tmp_path / "layer")
        trained = ThinkingModel(load_model(tiny_directory, layer=run.path / "final"))
        trained.generate(["What is 3 + 4?", "What is 1 + 2 + 3 + 4 + 5 + 6?"], budget=[4, -1])
        requests = [
            request_for(tiny_model, tuple(range(12, 12 + length)), request_id=length, budget=5)
            for length in (3, 9, 5)
        ]
        replies = list(Engine(tiny_model, engine_settings(tiny_model, rows=2)).generate(requests))
    assert len(replies) == 3
    assert of_padding(messages) == []


def test_the_ear_hears_the_warning_that_right_padding_causes(tiny_directory: Path) -> None:
    base = load_model(tiny_directory).base
    ids = torch.tensor([[20, 21, 22], [20, base.pad_id, base.pad_id]])
    with everything_said() as messages:
        base.model.generate(ids, attention_mask=(ids != base.pad_id).long(), max_new_tokens=2)
    assert any("right-padding" in message for message in of_padding(messages)), messages


@pytest.mark.parametrize("kind", ["layer", "gate", "reread", "imitate"])
def test_a_run_on_right_padding_stops_before_anything_is_written(
    kind: str, tiny_directory: Path, tmp_path: Path
) -> None:
    base = right_padding(tiny_directory, tmp_path / "base")
    config = load(RECIPES / f"{kind}.yaml", [f"model.path={base}"])
    with pytest.raises(ModelError, match="padding_side 'left', got 'right'"):
        train(config, run_dir=tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_pretraining_on_right_padding_stops_before_its_first_step(
    tiny_directory: Path, tmp_path: Path
) -> None:
    base = right_padding(tiny_directory, tmp_path / "base")
    config = load(RECIPES / "nano-anneal.yaml", [f"run.objective.start={base}"])
    with pytest.raises(ModelError, match="padding_side 'left', got 'right'"):
        train(config, run_dir=tmp_path / "run")
    kinds = {event.kind for event in read_events(tmp_path / "run" / "events.jsonl")}
    assert kinds <= {EventKind.CONFIG, EventKind.ALERT}
    assert not (tmp_path / "run" / "final").exists()
