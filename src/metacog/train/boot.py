"""The checks before a run, one by one, to a step that is really taken, in a directory thrown away."""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from metacog.config import cautions, digest
from metacog.config.objective import PretrainObjective, ScheduleObjective
from metacog.config.run import RunConfig
from metacog.errors import MetacogError, RunError
from metacog.model.base import require_left_padding
from metacog.model.bundle import MetacogModel
from metacog.telemetry.boot import CHECKS, Check, Piece
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import require_sinks
from metacog.text.resolve import tag_ids
from metacog.train.checks import families_of, reads_rows, refuse_unread
from metacog.train.memory import size
from metacog.train.preflight import QUICK_CHUNK, Preflight, begins_with
from metacog.train.run import checked_model, train_stage
from metacog.train.schedule import stages_of
from metacog.train.text import TextSources, open_sources

_ROWS_TOLD = 3
_CHARACTERS_TOLD = 1500
_FEW_PROMPTS = 24
_FEW_TOKENS = 32


def boot(config: RunConfig, *, runs: Path) -> Iterator[Check]:
    """Yield what is found of each of `CHECKS`; the first that is wrong is the last.

    Args:
        config: Of the run; of a schedule, its first stage is looked at.
        runs: Directory in which the run will be made; nothing is written there.
    """
    look = _Boot(config, runs)
    looks = dict(zip(CHECKS, look.all(), strict=True))
    for name, found in looks.items():
        try:
            says = found()
        except MetacogError as error:
            yield Check(name, False, str(error))
            return
        yield Check(name, True, says, look.rows() if name == "batch" else ())


@dataclass
class _Boot:
    """What was found so far."""

    config: RunConfig
    runs: Path
    model: MetacogModel | None = None
    sources: TextSources = field(default_factory=list)
    found: Preflight | None = None

    def all(self) -> tuple[Callable[[], str], ...]:
        """Return the looks in the order of `CHECKS`."""
        return (
            self.configuration,
            self.base,
            self.padding,
            self.tags,
            self.data,
            self.batch,
            self.parameters,
            self.memory,
            self.disk,
            self.one_step,
        )

    def configuration(self) -> str:
        """Look at what needs no model."""
        require_sinks(self.config.logging.sinks)
        refuse_unread(self.config)
        said = [f"{self.config.run.objective.kind}, digest {digest(self.config)[:12]}"]
        said += [f"caution: {caution}" for caution in cautions(self.config)]
        if isinstance(self.config.run.objective, ScheduleObjective):
            self.config = stages_of(self.config, Path())[0].config
            said.append(f"first stage: {self.config.run.objective.kind}")
        return "\n".join(said)

    def base(self) -> str:
        """Load the base, unless the run makes one."""
        self.model = checked_model(self.config)
        if self.model is None:
            return "made by the run itself"
        base = self.model.base
        parts = sum(parameter.numel() for parameter in base.model.parameters())
        layer = "none" if self.model.reader is None else "there"
        return (
            f"{self.config.model.path}: {parts:,} parameters, {len(base.blocks)} blocks of width "
            f"{base.hidden}, context {base.context}; layer {layer}"
        )

    def padding(self) -> str:
        """Look at the side on which the tokenizer pads."""
        if self.model is not None:
            require_left_padding(self.model.base.tokenizer)
        return (
            "left" if self.model else "of a tokenizer that the run makes: looked at with its batch"
        )

    def tags(self) -> str:
        """Resolve the tags in the model's tokenizer."""
        if self.model is None:
            return "part of the vocabulary that the run makes"
        found = tag_ids(self.model.base.tokenizer)
        return "; ".join(
            f"{name} {' '.join(map(str, ids.open))} / {' '.join(map(str, ids.close))}"
            for name, ids in found.items()
        )

    def data(self) -> str:
        """Open the data sets, or name the families."""
        if not reads_rows(self.config):
            families = ", ".join(families_of(self.config))
            return f"{self.config.data.num_prompts:,} questions of {families}"
        self.sources = open_sources(self.config)
        return "\n".join(
            f"{source.name} ({source.place}, {source.split}): columns {kind}, "
            f"{source.domain or 'no domain'}, weight {source.weight:g}"
            for source, kind in self.sources
        )

    def batch(self) -> str:
        """Decode the first batch."""
        self.found = begins_with(self.config, self.model, self.sources)
        lengths = self.found.lengths
        seen = "" if lengths.longest_seen is None else f", longest probed {lengths.longest_seen}"
        return (
            f"{len(lengths.batch)} rows of {min(lengths.batch)} to {max(lengths.batch)} tokens, "
            f"max_len {lengths.max_len}{seen}, context {lengths.context}"
        )

    def rows(self) -> tuple[tuple[Piece, ...], ...]:
        """Return the first rows with what is learned of them."""
        rows = self._known.batch[:_ROWS_TOLD]
        return tuple(tuple(Piece(s.part, s.learned, _short(s.text)) for s in row) for row in rows)

    @property
    def _known(self) -> Preflight:
        assert self.found is not None, "the batch is looked at before"
        return self.found

    def parameters(self) -> str:
        """Say what learns, and how fast."""
        rows = [(g.name, f"{g.parameters:,}", f"{g.learning_rate:g}") for g in self._known.groups]
        rows.append(("frozen", f"{self._known.frozen:,}", "--"))
        names, counts = (max(len(row[place]) for row in rows) for place in (0, 1))
        return "\n".join(f"{n:<{names}}  {c:>{counts}}  {rate}" for n, c, rate in rows)

    def memory(self) -> str:
        """Estimate what a step takes."""
        memory = self._known.memory
        first = memory.activations
        return (
            f"about {size(memory.weights)} weights, {size(memory.gradients)} gradients, "
            f"{size(memory.optimizer)} optimizer, "
            f"{'unknown before rollouts' if first is None else size(first)} activations"
        )

    def disk(self) -> str:
        """Compare what the run will save with what is free."""
        memory, run = self._known.memory, self.config.run
        saves = run.steps // run.save_interval
        kept = saves if run.keep_last is None else min(saves, run.keep_last)
        one = memory.gradients + memory.optimizer
        wanted, free = (kept + 1) * one + memory.weights, self._free()
        if wanted > free:
            raise RunError(
                f"Wanted about {size(wanted)} in {self.runs} for {kept:,} checkpoints of "
                f"{size(one)}, but {size(free)} are free. Set run.keep_last, raise "
                "run.save_interval, or free room."
            )
        return f"{size(free)} free; about {size(wanted)} for {kept:,} checkpoints and the end"

    def _free(self) -> int:
        place = self.runs.absolute()
        while not place.is_dir():
            place = place.parent
        try:
            return shutil.disk_usage(place).free
        except OSError as error:
            raise RunError(
                f"Wanted to know how much room is in {place}: {error.strerror}. Mend the disk."
            ) from error

    def one_step(self) -> str:
        """Train for one step, save it, and throw it away."""
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="metacog-") as directory:
                run = train_stage(_one_step(self.config), run_dir=Path(directory) / "run")
                loss, norm = _figures(run)
        except OSError as error:
            raise RunError(
                f"Wanted to take one step in a temporary directory, but {error}. Free room there."
            ) from error
        return (
            f"loss {loss}, gradient norm {norm}, taken and saved in "
            f"{time.monotonic() - begun:.1f} s; most memory so far {size(_most_memory())}"
        )


def _one_step(config: RunConfig) -> RunConfig:
    """Return a run of one step; where it learns from rollouts, of few and short ones."""
    objective = config.run.objective
    run: dict[str, object] = {"steps": 1, "warmup": 0, "eval_interval": sys.maxsize}
    parts: dict[str, object] = {"logging": config.logging.model_copy(update={"sinks": ("jsonl",)})}
    given = objective.kind == "imitate" and objective.traces == "given"
    if isinstance(objective, PretrainObjective):
        quick = {"chunk": QUICK_CHUNK, "compiled": False}
        run["objective"] = objective.model_copy(update=quick)
    elif not given:
        few = min(config.data.num_prompts, _FEW_PROMPTS)
        tokens = min(config.budget.max_tokens, max(config.budget.min_tokens + 1, _FEW_TOKENS))
        parts["data"] = config.data.model_copy(update={"num_prompts": few})
        parts["budget"] = config.budget.model_copy(update={"max_tokens": tokens})
        run |= {"batch": min(config.run.batch, 2), "grad_accum": 1}
    return config.model_copy(update={**parts, "run": config.run.model_copy(update=run)})


def _figures(run: RunDir) -> tuple[str, str]:
    """Return loss and norm of the gradient as the run told them."""
    told = [e.data for e in read_events(run.events) if e.kind is EventKind.METRICS]
    last = told[-1] if told else {}
    found = (last.get("train/loss"), last.get("train/grad_norm"))
    loss, norm = (f"{x:.4g}" if isinstance(x, int | float) else "--" for x in found)
    return loss, norm


def _most_memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _short(words: str) -> str:
    half = _CHARACTERS_TOLD // 2
    cut = len(words) - 2 * half
    return words if cut <= 0 else f"{words[:half]} […{cut} characters…] {words[-half:]}"
