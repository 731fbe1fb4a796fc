"""One reply for a person or a program: reading, thinking against its budget, answer."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.bundle import MetacogModel
from metacog.records import (
    UNFAMILIAR,
    BudgetReport,
    CalibrationReport,
    Generation,
    Reading,
    RevisionKind,
    Segment,
    Step,
)
from metacog.text.render import render

Events = Iterator[Step | Generation]
_BAR = 40
_STYLES = {Segment.THINK: "dim cyan", Segment.CLOSE: "dim", Segment.ANSWER: "bold"}


def ask(
    model: MetacogModel,
    prompt: str,
    *,
    budget: int | None = None,
    plan: str | None = None,
    seed: int = 0,
    temperature: float | None = None,
) -> Events:
    """Yield the tokens of a reply to one question, and the reply at its end."""
    ids = render(model.base.tokenizer, [{"role": "user", "content": prompt}])
    request = request_for(
        model, tuple(ids), budget=budget, plan=plan, seed=seed, temperature=temperature
    )
    yield from Engine(model, engine_settings(model, rows=1, telemetry=True)).stream([request])


def reply_of(events: Events) -> Generation:
    """Return the finished reply of a stream."""
    *_, last = events
    assert isinstance(last, Generation)
    return last


def as_data(model: MetacogModel, events: Events) -> dict[str, Any]:
    """Return all that is known of a reply as JSON values."""
    reply = reply_of(events)
    decode = model.base.decode
    return {
        "think": decode(reply.think, with_control=True),
        "answer": decode(reply.answer).strip(),
        "plan": reply.plan,
        "reading": asdict(reply.reading) if reply.reading is not None else None,
        "budget": asdict(reply.budget),
        "gate": asdict(reply.gate) if reply.gate is not None else None,
        "rereadings": [asdict(step.rereading) for step in reply.steps if step.rereading],
        "think_tokens": len(reply.think),
        "answer_tokens": len(reply.answer),
        "forced_tokens": sum(not step.sampled for step in reply.steps),
        "finished": reply.finished,
    }


def print_stream(model: MetacogModel, events: Events) -> None:
    """Print tokens as they come, thinking dimmed, then what became of the budget."""
    console = Console(highlight=False)
    for event in events:
        if isinstance(event, Step):
            text = model.base.decode([event.token], with_control=True)
            console.print(Text(text, style=_STYLES[event.segment]), end="")
        else:
            console.print()
            console.print(spending(event.budget))


def print_reply(model: MetacogModel, events: Events) -> None:
    """Print reading, thinking and answer as panels."""
    reply = reply_of(events)
    decode = model.base.decode
    console = Console(highlight=False)
    if reply.reading is not None:
        console.print(Panel(_reading(reply.reading), title="reading", border_style="cyan"))
    console.print(
        Panel(Text(decode(reply.think, with_control=True)), title="thinking", border_style="blue")
    )
    console.print(Panel(spending(reply.budget), title="budget", border_style="yellow"))
    answer = decode(reply.answer).strip()
    console.print(Panel(Text(answer, style="bold"), title="answer", border_style="green"))


def _reading(reading: Reading) -> Group:
    plans = ", ".join(f"{name} {share:.0%}" for name, share in reading.plan.items())
    head = Text(
        f"plan        {reading.chosen_plan}  ({plans})\n"
        f"budget      {reading.budget} tokens\n"
        f"confidence  {reading.confidence:.0%}{_made_by(reading.calibration)}"
        f"{_strangeness(reading.familiarity)}"
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("block", "weight", "plan", "budget", "confidence"):
        table.add_column(column, justify="right")
    names = list(reading.plan)
    for index, layer in enumerate(reading.per_layer):
        best = names[max(range(len(names)), key=layer.plan.__getitem__)]
        bar = "█" * round(layer.alpha * 12)
        table.add_row(
            str(index),
            f"{bar} {layer.alpha:.2f}",
            best,
            f"{layer.budget:.0f}",
            f"{layer.confidence:.0%}",
        )
    return Group(head, table)


def _made_by(report: CalibrationReport | None) -> str:
    if report is None or report.confidence is None:
        return "  (not calibrated)"
    kept = "" if report.risk is None else f", risk {report.risk:.1%}"
    return f"  ({report.confidence}, {report.questions} questions{kept}, {report.sha256[:8]})"


def _strangeness(familiarity: float | None) -> str:
    """Return a warning where a calibration promises nothing for such a prompt."""
    if familiarity is None or familiarity >= UNFAMILIAR:
        return ""
    return (
        f"\n▲ unfamiliar: at most {familiarity:.1%} of the calibration's prompts look as strange, so "
        "neither budget nor confidence is promised"
    )


def spending(budget: BudgetReport) -> Text:
    """Return what became of a budget, in lines: numbers, a bar, and what each re-reading changed."""
    cap = budget.enforced
    lines = [
        f"requested {_or_dash(budget.requested, 'auto')}   predicted {_or_dash(budget.predicted)}"
        f"   enforced {_or_dash(cap, 'no limit')}   used {budget.used}   closed by "
        f"{budget.close_reason or '--'}"
    ]
    if cap:
        filled = round(_BAR * min(1.0, budget.used / cap))
        lines.append(f"[{'█' * filled}{'·' * (_BAR - filled)}] {budget.used}/{cap}")
    for revision in budget.revisions:
        seen = revision.rereading
        before = revision.budget_before
        beyond = before is not None and seen.needed > before - seen.used
        needs = "more than it has" if beyond else f"{seen.needed:.0f} more"
        lowered = revision.kind is RevisionKind.LOWERED
        allowed = f", allowed {math.ceil(seen.allowed)}" if lowered else ""
        lines.append(
            f"at {seen.used}: {revision.kind}, ready {seen.ready:.0%}, gain {seen.gain:.0%}, "
            f"needs {needs}{allowed} -> {revision.budget_after}"
        )
    return Text("\n".join(lines))


def _or_dash(value: int | None, missing: str = "--") -> str:
    return missing if value is None else str(value)
