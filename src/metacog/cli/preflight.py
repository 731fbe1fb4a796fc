"""What a run would begin with, for a person to look at."""

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from metacog.train.memory import size
from metacog.train.preflight import Preflight, Rows, Span

_ROWS_SHOWN = 2
_CHARACTERS_SHOWN = 600
_STYLES = {
    ("prompt", False): "dim",
    ("think", True): "cyan",
    ("think", False): "dim cyan strike",
    ("close", True): "magenta",
    ("close", False): "dim magenta",
    ("answer", True): "bold green",
    ("answer", False): "dim green",
    ("row", True): "green",
    ("row", False): "dim",
}


def print_preflight(found: Preflight, console: Console) -> None:
    """Print checks, data, lengths, parameters, memory, and the first rows with their masks."""
    console.print(Panel(Group(_checks(found), _groups(found)), title="preflight"))
    for number, row in enumerate(found.batch[:_ROWS_SHOWN], 1):
        title = f"row {number} of {len(found.batch)} of the first batch"
        if found.lengths.batch and not _is_learned(found.batch):
            title = "a prompt; the base's own rollouts are made when the run begins"
        console.print(Panel(_row(row), title=title))


def printable(text: str) -> str:
    """Return text whose control characters are pictures, so that no row commands the terminal."""
    return "".join(_picture(char) for char in text)


def _picture(char: str) -> str:
    code = ord(char)
    if char == "\n" or (code >= 32 and code != 127 and not 128 <= code < 160):
        return "\ufffd" if code in _BIDI else char
    return chr(0x2400 + code) if code < 32 else "\u2421"


_BIDI = frozenset({*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F})
"""Characters that turn the direction of what follows them."""


def _checks(found: Preflight) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    lengths, memory = found.lengths, found.memory
    table.add_row("objective", f"{found.objective} on {printable(found.model)}")
    light = Text("● left", "green") if found.left_padding else Text("● right", "bold red")
    table.add_row("padding", light)
    opener = "opens THINK itself" if found.template_opens_think else "gets the opener appended"
    table.add_row("template", opener)
    tags = (f"{name} {_ids(*ids)}" for name, ids in found.tags.items())
    table.add_row("tags", "; ".join(tags))
    for source in found.sources:
        about = source.domain or "no domain"
        table.add_row(
            "data",
            f"{printable(source.name)} ({source.place}, {source.split}): columns {source.kind}, "
            f"{about}, weight {source.weight:g}",
        )
    seen = "" if lengths.longest_seen is None else f", longest probed {lengths.longest_seen}"
    table.add_row(
        "lengths",
        f"{min(lengths.batch)} to {max(lengths.batch)} tokens in the batch, max_len "
        f"{lengths.max_len}{seen}, context {lengths.context}",
    )
    first = "unknown before rollouts" if memory.activations is None else size(memory.activations)
    table.add_row(
        "memory",
        f"about {size(memory.weights)} weights, {size(memory.gradients)} gradients, "
        f"{size(memory.optimizer)} optimizer, {first} for the gradient of the first batch",
    )
    return table


def _groups(found: Preflight) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("group")
    table.add_column("parameters", justify="right")
    table.add_column("learning rate", justify="right")
    for group in found.groups:
        table.add_row(group.name, f"{group.parameters:,}", f"{group.learning_rate:g}")
    table.add_row("frozen", f"{found.frozen:,}", "-")
    return table


def _row(row: tuple[Span, ...]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for span in row:
        learned = "learned" if span.learned else "not learned"
        style = _STYLES[span.part, span.learned]
        text = Text(_shortened(printable(span.text)), style)
        table.add_row(f"{span.part}, {learned}", str(span.tokens), text)
    return table


def _shortened(text: str) -> str:
    half = _CHARACTERS_SHOWN // 2
    cut = len(text) - 2 * half
    return text if cut <= 0 else f"{text[:half]} […{cut} characters…] {text[-half:]}"


def _is_learned(rows: Rows) -> bool:
    return any(span.learned for row in rows for span in row)


def _ids(opener: tuple[int, ...], closer: tuple[int, ...]) -> str:
    return f"{' '.join(map(str, opener))} / {' '.join(map(str, closer))}"
