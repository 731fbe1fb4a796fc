"""Writes the course of a training run for people: a page that needs nothing else, and its parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metacog.errors import InputError
from metacog.eval.course import course_of, wrong_of
from metacog.eval.course_plots import draw_course
from metacog.eval.page import html_document, html_figures, html_table
from metacog.eval.report import markdown, write_pictures
from metacog.eval.tables import Table
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.files import write_text
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir

CAPTIONS = {
    "accuracy": "Share of right answers at each evaluation, and of rollouts where there are any.",
    "spending": "THINK tokens of replies, beside the budget that was predicted.",
    "loss": "What was descended, and the same on validation data.",
    "budget": "Replies under a predicted budget: on the line all of it was used.",
    "plans": "How likely the layer holds each plan.",
    "confidence": "How sure the layer is, and how well that holds: ECE and Brier are better small, "
    "AUROC large.",
    "alpha": "Which blocks the aggregator listens to at the end of each puzzle.",
    "alpha_course": "Smallest, mean and largest weight of a block, and their entropy in nats.",
    "gate": "||gated - ungated|| at each THINK token of each puzzle.",
}
"""What each picture shows, in the order of the page."""
_LONGEST = 120
"""Characters of a question or an answer in a table."""


def write_course_report(run: RunDir) -> Path:
    """Write page, Markdown, pictures and their numbers of a run, and return the path of the page.

    Raises:
        InputError: If the run has no events yet.
    """
    events = read_events(run.events)
    if not events:
        raise InputError(
            f"Wanted a run with events, got an empty {run.events}. Wait for its start."
        )
    course, directory = course_of(events), run.path / "report"
    drawn = draw_course(course)
    pictures = {name: drawn[name] for name in CAPTIONS}
    write_pictures(directory, pictures, course.as_json())
    tables = [_wrong_table(wrong_of(events)), _alert_table(events)]
    made = {"run": run.name, "events": str(len(events)), "last step": str(events[-1].step)}
    title = f"Run {run.name}"
    write_text(directory / "report.md", markdown(title, CAPTIONS, tables, made))
    lead = f"{len(events)} events up to step {events[-1].step}; {_ending(events)}."
    wide = {"accuracy", "spending", "gate"}
    parts = [html_figures(pictures, CAPTIONS, wide=wide), *map(html_table, tables)]
    page = directory / "report.html"
    write_text(page, html_document(title, lead, parts))
    return page


def _ending(events: Sequence[Event]) -> str:
    said = [event.data.get("message") for event in events if event.kind is EventKind.STATUS]
    return str(said[-1]) if said else "not ended"


def _wrong_table(wrong: Sequence[Mapping[str, object]]) -> Table:
    keys = ("wanted", "answer", "think_tokens", "budget", "close_reason")
    rows = tuple(
        (_short(reply.get("question")), *(_short(reply.get(key)) for key in keys))
        for reply in wrong
    )
    head = ("question", "wanted", "answer", "THINK", "budget", "closed by")
    return Table("What it got wrong last, and how long it thought", head, rows)


def _alert_table(events: Sequence[Event]) -> Table:
    alerts = [event for event in events if event.kind is EventKind.ALERT]
    rows = tuple((str(event.step), _short(event.data.get("message"), 300)) for event in alerts)
    return Table("Alerts", ("step", "what was wrong"), rows)


def _short(value: object, longest: int = _LONGEST) -> str:
    if value is None:
        return "--"
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
