"""Watches the metrics of steps for ways in which training goes wrong, each with a remedy.

A watcher looks at the mean of a metric over its last steps and speaks once; it may speak again after
the mean has come back. A metric that a step does not have leaves its watcher as it is.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, Protocol, runtime_checkable

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Alert:
    """What a watcher has to say."""

    name: str
    message: str
    """What is seen, why it is bad, and what to change."""
    is_over: bool = False
    """It has cleared: nothing to do any more."""


@runtime_checkable
class Watcher(Protocol):
    """Looks at one step after the other."""

    def look(self, metrics: Metrics) -> Alert | None:
        """Return what is to be told after this step, if anything is."""


@dataclass
class Bound:
    """Speaks when the mean of a metric over `window` steps lies beyond `limit`.

    It clears when the mean is back at `clears` or better, so that a mean that trembles around the
    limit does not speak again and again.
    """

    name: str
    metric: str
    side: Literal["above", "below"]
    limit: float
    clears: float
    window: int
    why: str
    remedy: str
    _values: deque[float] = field(init=False, repr=False)
    _is_ringing: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._values = deque(maxlen=self.window)

    def look(self, metrics: Metrics) -> Alert | None:
        """Take the step's value, if it has one, and return what is to be told."""
        if self.metric not in metrics:
            return None
        self._values.append(metrics[self.metric])
        if len(self._values) < self.window:
            return None
        mean = fmean(self._values)
        seen = f"{self.metric} was {mean:.3g} over the last {self.window} steps"
        sign = 1 if self.side == "above" else -1
        if not self._is_ringing and sign * mean > sign * self.limit:
            self._is_ringing = True
            return Alert(
                self.name,
                f"{self.name}: {seen} ({self.side} {self.limit:g}). {self.why} {self.remedy}",
            )
        if self._is_ringing and sign * mean <= sign * self.clears:
            self._is_ringing = False
            return Alert(self.name, f"{self.name} is over: {seen}.", is_over=True)
        return None


@dataclass
class BudgetCollapse:
    """Speaks when thinking shrinks to a share of what it was and answers get worse with it.

    What it was is the mean of the first `window` steps; accuracy must have fallen by `loss`. Without
    an accuracy there is nothing to tell a saving from a collapse.
    """

    window: int = 50
    share: float = 0.25
    loss: float = 0.05
    _first: list[tuple[float, float]] = field(default_factory=list, init=False, repr=False)
    _last: deque[tuple[float, float]] = field(init=False, repr=False)
    _is_ringing: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._last = deque(maxlen=self.window)

    def look(self, metrics: Metrics) -> Alert | None:
        """Take the step's thinking and accuracy, if it has both, and return what is to be told."""
        if not {"think_tokens_used", "rl/accuracy"} <= metrics.keys():
            return None
        now = (metrics["think_tokens_used"], metrics["rl/accuracy"])
        if len(self._first) < self.window:
            self._first.append(now)
            return None
        self._last.append(now)
        if len(self._last) < self.window:
            return None
        (was, right), (used, still) = _means(self._first), _means(list(self._last))
        seen = f"think_tokens_used went from {was:.3g} to {used:.3g}, accuracy from {right:.1%} to {still:.1%}"
        collapsed = used < self.share * was and still < right - self.loss
        if collapsed == self._is_ringing:
            return None
        self._is_ringing = collapsed
        if not collapsed:
            return Alert("budget collapse", f"budget collapse is over: {seen}.", is_over=True)
        return Alert(
            "budget collapse",
            f"budget collapse: {seen}. Thinking is being cut below what answers need. Set "
            "losses.budget_target=need, raise budget.quantile, or lower run.objective.lambda_tokens.",
        )


@dataclass
class MemoryGrowth:
    """Speaks when the process holds `factor` times the memory that it held early on, and `least` MiB more.

    Early is the mean of `window` steps behind the first `window`, in which caches fill. It speaks
    once.
    """

    window: int = 100
    factor: float = 1.5
    least: float = 512.0
    _seen: int = field(default=0, init=False, repr=False)
    _early: list[float] = field(default_factory=list, init=False, repr=False)
    _last: deque[float] = field(init=False, repr=False)
    _has_told: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._last = deque(maxlen=self.window)

    def look(self, metrics: Metrics) -> Alert | None:
        """Take the step's memory, if it is known, and return what is to be told."""
        if "perf/memory" not in metrics:
            return None
        self._seen += 1
        if self._seen <= self.window:
            return None
        if len(self._early) < self.window:
            self._early.append(metrics["perf/memory"])
            return None
        self._last.append(metrics["perf/memory"])
        was, now = fmean(self._early), fmean(self._last)
        grown = now > self.factor * was and now > was + self.least
        if self._has_told or len(self._last) < self.window or not grown:
            return None
        self._has_told = True
        return Alert(
            "memory growth",
            f"memory growth: perf/memory went from {was:.0f} to {now:.0f} MiB. The process will run "
            "out of it. Lower data.prefetch, data.shuffle_buffer or run.objective.replay; if it goes "
            "on growing, stop the run and go on with --resume auto.",
        )


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return fmean(first for first, _ in pairs), fmean(second for _, second in pairs)


def watchers_for(*, budget_min: int, budget_max: int, num_layers: int) -> tuple[Watcher, ...]:
    """Return the watchers of a run.

    Args:
        budget_min: Smallest budget that the layer can predict, in tokens.
        budget_max: Largest.
        num_layers: Blocks that the aggregator weighs; of one there is no spread to lose.
    """
    near = budget_min + 0.01 * (budget_max - budget_min)
    found: list[Watcher] = [
        BudgetCollapse(),
        MemoryGrowth(),
        Bound(
            "budget at its minimum",
            "metacog/budget/predicted_mean",
            "below",
            near,
            2 * near,
            50,
            "Nearly every budget is the smallest one, so replies hardly think.",
            "Set losses.budget_target=need, raise budget.quantile, or lower losses.lambda_budget_reg.",
        ),
        Bound(
            "always at the cap",
            "metacog/budget/cap_hit_fraction",
            "above",
            0.95,
            0.9,
            20,
            "Replies never close by themselves, so lengths and needs are censored and teach nothing.",
            "Raise budget.max_tokens or budget.quantile, or run more rollouts without a cap.",
        ),
        Bound(
            "zero reward variance",
            "rl/reward_std",
            "below",
            1e-4,
            1e-2,
            10,
            "All rollouts of a prompt earn the same, so advantages are zero and nothing is learned.",
            "Choose prompts that are right now and then (data.tasks), raise "
            "run.objective.group_size or sampling.temperature.",
        ),
        *_gate_bounds(),
    ]
    return (*found, _alpha_bound()) if num_layers > 1 else tuple(found)


def _alpha_bound() -> Bound:
    return Bound(
        "alpha collapse",
        "metacog/alpha/entropy",
        "below",
        0.05,
        0.1,
        50,
        "The aggregator listens to one block alone; the others' experts learn for nothing.",
        "Lower run.learning_rate, raise run.weight_decay, or set metacog.agg=mean.",
    )


def _gate_bounds() -> tuple[Bound, ...]:
    remedy = "Lower run.learning_rate or feedback.strength, or choose another feedback.site."
    return (
        Bound(
            "gate never on",
            "metacog/gate/coverage",
            "below",
            0.01,
            0.05,
            50,
            "The gate's switch is off at every THINK token, so it changes nothing and gets no gradient.",
            "Set feedback.switch=always, or lower run.learning_rate.",
        ),
        Bound(
            "gate without effect",
            "metacog/gate/norm",
            "below",
            1e-6,
            1e-5,
            100,
            "The gate is still the identity: it gets no gradient.",
            "Raise run.learning_rate or feedback.strength, and check that its layer reads the prompt.",
        ),
        Bound(
            "gate saturated",
            "metacog/gate/saturation",
            "above",
            0.95,
            0.8,
            50,
            "Nearly every channel sits at its bound, where its gradient is lost.",
            remedy,
        ),
    )
