"""A question that is asked of a loaded model: its reading, and each reply against its budget."""

from collections.abc import Mapping, Sequence

from textual.content import Content

from metacog.records import UNFAMILIAR
from metacog.tui.asked import Question, Side
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, PLAIN
from metacog.tui.widgets.draw import MISSING, bar, number
from metacog.tui.widgets.grids import shades, stretched
from metacog.tui.widgets.lines import heading, join, text

_LABEL = 12


def reading_lines(question: Question | None, width: int) -> Content:
    """Return what the layer read at the end of the prompt, and each block's own opinion."""
    if question is None:
        return text("Ask something below.", FAINT)
    if question.error is not None:
        return text(question.error, FAIL)
    if not question.is_read:
        return text("reading …", DIM)
    cap = "no limit" if question.cap is None else f"{question.cap} tokens"
    lines = [_pair("may think", cap)]
    if question.reading is None:
        return join([*lines, text("This model has no layer: nothing was predicted.", FAINT)])
    reading = question.reading
    calibration = reading.get("calibration")
    lines += [
        _pair("predicted", f"{reading.get('budget', MISSING)} tokens"),
        _share("confidence", reading.get("confidence"), width),
        *_familiarity(reading.get("familiarity")),
        heading("PLAN", str(question.plan or MISSING), width),
        *_plans(reading.get("plan"), width),
        heading("LAYERS", "trust  plan  budget  sure", width),
        *_experts(reading, width),
    ]
    if isinstance(calibration, Mapping):
        made = calibration.get("confidence") or "identity"
        lines.append(
            text(f"calibration {made}, n={calibration.get('questions') or MISSING}", FAINT)
        )
    return join(lines)


def _familiarity(value: object) -> list[Content]:
    """Return how much the prompt is like the calibration's, and an alarm where it is not."""
    if not isinstance(value, int | float):
        return [_pair("familiar", MISSING)]
    if value >= UNFAMILIAR:
        return [_pair("familiar", f"{value:.0%}")]
    return [text(f"{'familiar':<{_LABEL}}✖ {value:.1%}: nothing is promised", FAIL)]


def _pair(label: str, value: str) -> Content:
    return Content("").join([text(f"{label:<{_LABEL}}", DIM), text(value, BRIGHT)])


def _share(label: str, value: object, width: int) -> Content:
    if not isinstance(value, int | float):
        return _pair(label, MISSING)
    drawn = bar(float(value), max(width - _LABEL - 6, 1))
    head = text(f"{label:<{_LABEL}}"[:_LABEL], DIM)
    return Content("").join([head, text(f"{value:>4.0%}  ", BRIGHT), text(drawn, PLAIN)])


def _plans(plans: object, width: int) -> list[Content]:
    if not isinstance(plans, Mapping):
        return [text(MISSING, FAINT)]
    return [_share(str(name), value, width) for name, value in plans.items()]


def _experts(reading: Mapping[str, object], width: int) -> list[Content]:
    """Return a line for each block that is read, the last one first."""
    experts, plans = reading.get("per_layer"), reading.get("plan")
    if not isinstance(experts, Sequence) or not experts or not isinstance(plans, Mapping):
        return [text(MISSING, FAINT)]
    names = list(plans)
    lines = []
    for block, expert in reversed(list(enumerate(experts))):
        weights = list(expert["plan"])
        plan = str(names[weights.index(max(weights))])[:9]
        trust = bar(float(expert["alpha"]), max(width - 35, 4))
        numbers = f"{plan:<9} {number(float(expert['budget'])):>6} {expert['confidence']:>4.0%}"
        lines.append(
            Content("").join(
                [
                    text(f"L{block:<3}", DIM),
                    text(trust, PLAIN),
                    text(f" {expert['alpha']:.2f} ", BRIGHT),
                    text(numbers, DIM),
                ]
            )
        )
    return lines


def side_lines(question: Question | None, side: str, width: int) -> Content:
    """Return one reply as far as it has come."""
    known = None if question is None else question.sides.get(side)
    if question is None or known is None:
        return text(MISSING, FAINT)
    lines = [
        _meter(question, known, width),
        heading("THINK", f"{known.think_tokens} tokens", width),
        text(known.thinking, DIM),
        heading("ANSWER", "", width),
        text(known.answer or ("…" if not question.is_over else MISSING), BRIGHT),
        *_end(known, width),
    ]
    if known.reply is None and question.is_stopped:
        lines.append(text("stopped", FAINT))
    return join(lines)


def _meter(question: Question, side: Side, width: int) -> Content:
    cap = _of(side.reply, "budget", "enforced") if side.reply else question.cap
    used = f"{side.think_tokens}/{cap if isinstance(cap, int) else MISSING}"
    room = max(width - len(used) - 1, 1)
    share = side.think_tokens / cap if isinstance(cap, int) and cap else 0.0
    return Content("").join(
        [text(bar(share, room).replace(" ", "·"), PLAIN), text(f" {used}", BRIGHT)]
    )


def _of(reply: Mapping[str, object] | None, part: str, name: str) -> object:
    found = None if reply is None else reply.get(part)
    return found.get(name) if isinstance(found, Mapping) else None


def _end(side: Side, width: int) -> list[Content]:
    """Return why THINK ended, what re-readings changed, and what the gate did."""
    if side.reply is None:
        return []
    reason = _of(side.reply, "budget", "close_reason") or MISSING
    lines = [heading("END", f"closed: {reason}", width), _pair("forced", str(side.forced))]
    revisions = _of(side.reply, "budget", "revisions")
    for revision in revisions if isinstance(revisions, Sequence) else ():
        seen = revision["rereading"]
        words = f"at {seen['used']}: ready {seen['ready']:.0%}, gain {seen['gain']:.0%}"
        lines.append(_pair(str(revision["kind"]), f"{words} → {revision['budget_after']}"))
    changes = _of(side.reply, "gate", "per_token")
    if not isinstance(changes, Sequence) or not changes:
        return [*lines, _pair("gate", "off" if side.reply.get("gate") is None else MISSING)]
    figures = [_of(side.reply, "gate", name) for name in ("norm", "coverage")]
    norm, coverage = (number(v) if isinstance(v, float) else MISSING for v in figures)
    values = [float(value) for value in changes]
    cells = stretched(values, max(width - _LABEL, 1))
    strip = shades(cells, 0.0, max(values))
    return [
        *lines,
        _pair("gate", f"norm {norm}  coverage {coverage}"),
        Content("").join([text(f"{'by token':<{_LABEL}}", DIM), strip]),
    ]
