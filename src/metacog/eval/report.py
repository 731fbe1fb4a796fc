"""Writes what an evaluation found for people: a page that needs nothing else, and its parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metacog.eval.figures import Figures
from metacog.eval.page import CAPTIONS, html_page
from metacog.eval.plots import draw
from metacog.eval.tables import Table, arm_table, family_table, quality_table
from metacog.telemetry.files import write_bytes, write_json, write_text


def write_report(
    directory: Path,
    summary: Mapping[str, Any],
    figures: Figures,
    *,
    title: str,
    provenance: Mapping[str, str],
) -> Path:
    """Write page, Markdown, pictures and their numbers, and return the path of the page.

    Args:
        directory: Such as a run's `report/`; files of an older report are replaced.
        summary: From `summarise`.
        figures: From `figures_of`.
        title: Heading of the page.
        provenance: What made the figures: command, hash of the base, versions.
    """
    pictures = draw(figures)
    write_pictures(directory, pictures, figures.as_json())
    write_json(directory / "summary.json", {**summary, "provenance": dict(provenance)})
    tables = [arm_table(summary), quality_table(summary), family_table(summary)]
    write_text(directory / "report.md", markdown(title, CAPTIONS, tables, provenance))
    page = directory / "report.html"
    write_text(page, html_page(title, summary, tables, pictures, provenance))
    return page


def write_pictures(
    directory: Path, pictures: Mapping[str, bytes], numbers: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write each picture as PNG, and the numbers behind it as JSON beside it."""
    for name, picture in pictures.items():
        write_bytes(directory / f"{name}.png", picture)
        write_json(directory / f"{name}.json", numbers[name])


def markdown(
    title: str,
    captions: Mapping[str, str],
    tables: Sequence[Table],
    provenance: Mapping[str, str],
) -> str:
    """Return a report as Markdown, with the pictures that have captions as files beside it."""
    lines = [f"# {title}", ""]
    lines += [f"![{name}]({name}.png)\n\n{text}\n" for name, text in captions.items()]
    for table in tables:
        lines += [f"## {table.title}", "", _markdown_row(table.head)]
        lines.append(_markdown_row(["---"] + ["---:"] * (len(table.head) - 1)))
        lines += [*map(_markdown_row, table.rows), ""]
    lines += ["## Made by", "", *(f"- {name}: `{value}`" for name, value in provenance.items()), ""]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
