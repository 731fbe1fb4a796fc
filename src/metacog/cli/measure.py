"""One measurement of a model, for `metacog eval` and the demonstration."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.errors import InputError, ModelError
from metacog.eval.figures import figures_of
from metacog.eval.protocol import Measurement, Runners, fix_baselines, measure_on_test, num_replies
from metacog.eval.report import write_report
from metacog.eval.runner import Progress, ProgressMeter, Runner, Setup
from metacog.eval.setup import setup_of
from metacog.eval.summary import summarise_measurement
from metacog.model.bundle import MetacogModel
from metacog.model.calibration import layer_digest
from metacog.telemetry.provenance import collect

_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    n: int = 1000
    """Questions."""
    matching: int = 1000
    """Calibration questions on which baselines are matched; validation chose the thresholds."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Sampling seeds."""
    families: tuple[str, ...] = tuple(FAMILIES)
    split: Split = Split.TEST
    """Whose questions are measured on; anything but test is for choices."""

    def __post_init__(self) -> None:
        if self.matching < len(self.families):
            raise InputError(
                f"Baselines are matched on every family: wanted at least {len(self.families)} "
                f"questions to match on, got {self.matching}. Raise --matching (of eval) or --n (of "
                "demo), or name fewer families."
            )


def measure(
    model: MetacogModel,
    size: Size,
    *,
    caps: Sequence[int] = (),
    against: MetacogModel | None = None,
) -> tuple[Measurement, dict[str, Any]]:
    """Return a measurement and its summary; progress goes to stderr.

    Args:
        model: With a layer.
        size: How much is measured.
        caps: Constant caps to run beside the arms.
        against: Whose base, without layer and gate, is what a user would have instead; by default
            the model's own. A base that has learned is measured against what it was before.

    Raises:
        ModelError: If the model has no layer.
    """
    if model.reader is None:
        raise ModelError(
            f"Wanted a model with a layer to measure, got the bare base {model.base.path}. "
            "Train one: metacog train recipes/layer.yaml, then name its directory with --layer."
        )
    total = num_replies(
        size.matching * len(size.seeds),
        size.n * len(size.seeds),
        caps=len(caps),
        gated=model.gate is not None or against is not None,
    )
    meter = ProgressMeter(total, _teller())
    setup, without = setup_of(model), bare_of(model, against)
    bare = None if without is None else setup_of(without)
    calibration, test = (
        _runners(draw_questions(split, count, families=size.families), size, meter, setup, bare)
        for split, count in ((Split.CALIBRATION, size.matching), (size.split, size.n))
    )
    found = measure_on_test(test, fix_baselines(calibration), caps=caps)
    summary = summarise_measurement(found)
    summary |= digests_of(model)
    summary["against_sha256"] = (against or model).base.digest
    summary["sampling"] = vars(setup.sampling)
    summary["split"] = size.split.value
    return found, summary


def digests_of(model: MetacogModel) -> dict[str, str | None]:
    """Return the hashes of a model's base and layer, as results name them."""
    reader = model.reader
    return {
        "base_sha256": model.base.digest,
        "layer_sha256": None if reader is None else layer_digest(reader.layer),
    }


def bare_of(model: MetacogModel, against: MetacogModel | None) -> MetacogModel | None:
    """Return what a user would have instead of a model; None where it is the model itself."""
    if against is not None:
        return MetacogModel(against.base, decoding=model.decoding)
    return None if model.gate is None else replace(model, gate=None)


def _runners(
    questions: Sequence[Question],
    size: Size,
    meter: ProgressMeter,
    setup: Setup,
    bare: Setup | None,
) -> Runners:
    runner = Runner(setup, questions, size.seeds, meter)
    return Runners(runner, None if bare is None else Runner(bare, questions, size.seeds, meter))


def report(
    directory: Path, found: Measurement, summary: dict[str, Any], model: MetacogModel
) -> Path:
    """Write a measurement's report and return the path of its page."""
    origin = collect(seed=0, config_digest=model.base.digest)
    provenance = {
        "command": " ".join(["metacog", *origin.argv[1:]]),
        "commit": origin.git_sha or "unknown",
        "base": f"{model.base.path.name}, sha256 {model.base.digest[:16]}",
        "machine": f"{origin.num_cores} cores, {origin.platform}",
        "torch": origin.versions.get("torch", "unknown"),
    }
    figures = figures_of(summary, found.rows, found.curve, found.lengths)
    return write_report(
        directory, summary, figures, title="Accuracy for tokens", provenance=provenance
    )


def _teller() -> Callable[[Progress], None]:
    last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or progress.done == progress.total:
            last = now
            left = f"{progress.seconds_left:.0f} s left" if progress.seconds_left else ""
            line = f"{progress.arm}: {progress.done} of about {progress.total} replies, {left}\n"
            sys.stderr.write(line)
            sys.stderr.flush()

    return tell
