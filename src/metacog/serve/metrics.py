"""Figures for Prometheus; no label holds what a client wrote."""

from typing import Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from metacog.records import BudgetReport

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_TOKENS = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


@runtime_checkable
class Occupancy(Protocol):
    """How much is under way."""

    @property
    def running(self) -> int:
        """Return how many replies are being written."""

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""


class Metrics:
    """One server's counters, in a registry of its own."""

    def __init__(self, occupancy: Occupancy) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "metacog_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "metacog_tokens",
            "Tokens of replies, by segment.",
            ["segment"],
            registry=self.registry,
        )
        self.closed = Counter(
            "metacog_closed",
            "Replies by what closed their thinking.",
            ["reason"],
            registry=self.registry,
        )
        self.first_token = self._histogram(
            "metacog_first_token_seconds", "From a request to its first token.", _SECONDS
        )
        self.duration = self._histogram(
            "metacog_reply_seconds", "From a request to the end of its reply.", _SECONDS
        )
        self.predicted = self._histogram(
            "metacog_budget_predicted_tokens", "Budgets that the layer predicted.", _TOKENS
        )
        self.used = self._histogram(
            "metacog_budget_used_tokens", "Thinking tokens that were used.", _TOKENS
        )
        running = Gauge(
            "metacog_running", "Replies that are being written.", registry=self.registry
        )
        running.set_function(lambda: occupancy.running)
        waiting = Gauge("metacog_waiting", "Requests that wait for a slot.", registry=self.registry)
        waiting.set_function(lambda: occupancy.waiting)

    def _histogram(self, name: str, text: str, bounds: tuple[int | float, ...]) -> Histogram:
        return Histogram(name, text, buckets=bounds, registry=self.registry)

    def replied(self, budget: BudgetReport, tokens: int, seconds: float) -> None:
        """Count a reply that has ended, with what became of its budget and all its tokens."""
        self.tokens.labels("think").inc(budget.used)
        self.tokens.labels("answer").inc(max(0, tokens - budget.used))
        self.closed.labels(budget.close_reason or "open").inc()
        self.duration.observe(seconds)
        self.used.observe(budget.used)
        if budget.predicted is not None:
            self.predicted.observe(budget.predicted)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)
