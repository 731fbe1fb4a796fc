"""What must hold in every run, looked at while it runs: a run that breaks it stops.

These are the cross-cutting gates of quality: budgets are measured and taught, blocks' opinions are
told, the gate that serves is the gate that trains, `max_len` never falls, checkpoints come exactly
when they are due. Padding is refused where batches are made (`data/padding.py`).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from metacog.config.run import RunConfig
from metacog.errors import RunError
from metacog.model.bundle import MetacogModel
from metacog.model.gate import gated_place, gates_in
from metacog.telemetry.manifest import MANIFEST_NAME
from metacog.telemetry.rundir import RunDir

THINKING = "think_tokens_used"
BUDGET_ERROR = "train/budget_mse"
OPINIONS = (
    *(f"metacog/alpha/{figure}" for figure in ("min", "mean", "max", "entropy")),
    "metacog/plan_agreement",
    "metacog/budget_variance",
)
"""What the blocks say, beside each other."""
MAX_LEN = "data/max_len"

_TEACHES_READINGS = frozenset({"layer", "reread", "imitate", "practice"})
_TEACHES_BUDGETS = frozenset({"layer", "imitate", "practice"})
_PASSES_REPLIES = frozenset({"gate", "imitate", "practice"})


@dataclass
class Guards:
    """Looks at every step of a run. Make them with `guards_for`; without arguments they demand little."""

    wanted: tuple[str, ...] = ()
    """Metrics that each step must have, as finite numbers."""
    serving: MetacogModel | None = None
    """The model as it would serve now, where its gate must be on in training too."""
    save_interval: int | None = None
    """Steps between checkpoints."""
    _max_len: float | None = field(default=None, init=False)
    _was_gated: bool = field(default=False, init=False)

    @contextmanager
    def on_step(self) -> Iterator[None]:
        """Demand that the passes of one step put the serving gate into place, and took it out again.

        Raises:
            RunError: If no pass was gated, or a hook is left.
        """
        self._was_gated = False
        yield
        if self.serving is None:
            return
        left = gates_in(self.serving.base.model)
        if left:
            raise RunError(
                f"Wanted no gate in the base after a step, found {len(left)}. Put it there in a "
                "with block that ends with the step."
            )
        if self.serving.gate is not None and not self._was_gated:
            raise RunError(
                "Wanted the gate that serves in place in training too, but no pass of the step had "
                "it. Run the objective's passes inside `gated`, or set feedback.enabled to false."
            )

    def on_pass(self) -> None:
        """Look at the hooks that are in place while one pass of a step runs.

        Raises:
            RunError: If there is another gate than the one that serves, or in another place.
        """
        if self.serving is None:
            return
        found = gates_in(self.serving.base.model)
        if not found:
            return
        ours = self.serving.gate
        if ours is None or found != [(gated_place(self.serving.base, ours), ours)]:
            raise RunError(
                f"Wanted the gate that serves and no other in training, found {len(found)} in the "
                "base, of another kind or in another block. Put it there with `gate_in`."
            )
        self._was_gated = True

    def after(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at the metrics of a step.

        Raises:
            RunError: If one is missing or no number, or `max_len` has fallen.
        """
        for name in self.wanted:
            if not math.isfinite(metrics.get(name, math.nan)):
                got = metrics.get(name, "nothing")
                raise RunError(
                    f"Wanted {name} in the metrics of step {step}, got {got}. A run that does not "
                    "measure this trains blindly: mend the objective."
                )
        now = metrics.get(MAX_LEN)
        if now is not None:
            if self._max_len is not None and now < self._max_len:
                raise RunError(
                    f"Wanted {MAX_LEN} to rise or stay, got {now:g} after {self._max_len:g} at step "
                    f"{step}. The length probe never lowers it."
                )
            self._max_len = now

    def on_save(self, run: RunDir, step: int) -> None:
        """Demand a whole checkpoint of a step where one is due, and none where none is.

        Raises:
            RunError: Naming the step.
        """
        path = run.checkpoint(step)
        is_due = self.save_interval is not None and step % self.save_interval == 0
        if self.save_interval is not None and is_due != (path / MANIFEST_NAME).is_file():
            wanted, got = ("a", "none") if is_due else ("no", "one")
            raise RunError(
                f"Wanted {wanted} checkpoint of step {step} at run.save_interval="
                f"{self.save_interval}, got {got} at {path.absolute()}. Leave the directory of a "
                "run alone while it trains."
            )


def guards_for(config: RunConfig, serving: MetacogModel | None) -> Guards:
    """Return what a run of this configuration must hold to.

    Args:
        config: Of the run.
        serving: The model as it would serve, or None where the objective has none.
    """
    kind = config.run.objective.kind
    wanted: list[str] = []
    if kind != "pretrain":
        wanted.append(THINKING)
    if kind in _TEACHES_BUDGETS and config.losses.lambda_budget_reg > 0:
        wanted.append(BUDGET_ERROR)
    if kind in _TEACHES_READINGS:
        wanted += OPINIONS
    return Guards(
        tuple(wanted), serving if kind in _PASSES_REPLIES else None, config.run.save_interval
    )
