"""Imitation of rows of real text on a real base; both are there only where somebody put them."""

from pathlib import Path

import pytest

from metacog.config import load
from metacog.model.bundle import load_model
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.preflight import preflight
from metacog.train.run import train
from tests.textdata import rows, write_jsonl

ROOT = Path(__file__).parents[2]
SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct"
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k"
SMALL = (
    "data.validation_rows=4",
    "data.shuffle_buffer=16",
    "run.steps=2",
    "run.batch=2",
    "run.warmup=0",
    "run.eval_interval=2",
    "run.objective.cut_after=1",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SMOLLM2.is_dir(), reason="`make smollm2` puts the base there"),
]


@pytest.mark.parametrize("name", ["own", "gsm8k"])
def test_a_real_base_learns_from_rows_of_text(name: str, tmp_path: Path) -> None:
    if name == "gsm8k" and not GSM8K.is_dir():
        pytest.skip("GSM8K lies beside the repository only where somebody put it")
    path = write_jsonl(tmp_path / "rows.jsonl", rows(60)) if name == "own" else GSM8K
    config = load(
        ROOT / "recipes" / "text.yaml", (*SMALL, f"model.path={SMOLLM2}", f"data.path={path}")
    )
    shown = preflight(config)
    assert shown.frozen == 134_515_008
    assert [span.part for span in shown.batch[0]] == ["prompt", "think", "close", "answer"]
    run = train(config, run_dir=tmp_path / "run")
    metrics = [e.data for e in read_events(run.events) if e.kind is EventKind.METRICS][-1]
    assert 0 < metrics["train/loss_answer"] < 8
    assert "train/loss_plan" not in metrics
    assert metrics["data/quarantined"] == 0
    assert load_model(str(SMOLLM2), layer=run.path / "final").gate is not None
