"""The report as one HTML page that loads nothing."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from metacog.eval.tables import Table, number, percent, points

CAPTIONS = {
    "curve": "Where each arm lands. Above the line is better than one cap for all at the same "
    "spend. Bars are 95 % intervals over prompts.",
    "budget": "What the layer predicted at the end of the prompt, against the fewest THINK tokens "
    "from which the answer is right and stays right.",
    "reliability": "How often answers of a given confidence are right, at the budget that was "
    "enforced. On the dashed line confidence means what it says.",
    "alpha": "Which blocks the aggregator listens to, by domain.",
}
"""What each picture shows."""
_STYLE = """
:root { color-scheme: light; --ink: #1c2330; --muted: #5d6675; --line: #e1e5ea; --accent: #2f6bda; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
.lead { color: var(--muted); margin: 0 0 1.5rem; }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.tile, figure, .table { background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
.tile { padding: .8rem 1rem; } .tile b { display: block; font-size: 1.45rem; line-height: 1.3; }
.tile span { color: var(--muted); font-size: .84rem; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); }
figure { margin: 0; padding: 1rem; } figure.wide { grid-column: 1 / -1; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--muted); font-size: .86rem; margin-top: .6rem; }
.table { overflow-x: auto; padding: .25rem .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .45rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } tr:last-child td { border-bottom: 0; }
th { color: var(--muted); font-weight: 600; }
@media (max-width: 30rem) { .figures { grid-template-columns: 1fr; } }
"""


def html_page(
    title: str,
    summary: Mapping[str, Any],
    tables: Sequence[Table],
    pictures: Mapping[str, bytes],
    provenance: Mapping[str, str],
) -> str:
    """Return the report as one page that loads nothing."""
    seeds = ", ".join(str(seed) for seed in summary["seeds"])
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">{summary["n"]} questions, sampling seeds {seeds}, '
        f"{summary['generations']} replies, {summary['cap_violations']} over their cap.</p>",
        f'<div class="tiles">{"".join(_tiles(summary))}</div>',
        "<h2>Pictures</h2>",
        f'<div class="figures">{"".join(_figure(n, p) for n, p in pictures.items())}</div>',
        *(_html_table(table) for table in tables),
        _html_table(Table("Made by", ("", ""), tuple(provenance.items()))),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _tiles(summary: Mapping[str, Any]) -> list[str]:
    shown = (
        (percent(summary["saving"]["mean"]), "of the uncapped spend saved"),
        (points(summary["noninferiority"]["difference"]), "accuracy against uncapped, points"),
        (points(summary["delta_constant"]["mean"]), "against one cap at equal spend, points"),
        (number(summary["budget"]["spearman"]), "Spearman of budget and need"),
        (number(summary["confidence"]["auroc"]), "AUROC of confidence at the prompt"),
        (number(summary["ready"]["auroc"]), "AUROC of re-readings"),
    )
    return [
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>'
        for value, label in shown
    ]


def _figure(name: str, picture: bytes) -> str:
    wide = ' class="wide"' if name in ("curve", "alpha") else ""
    data = base64.b64encode(picture).decode("ascii")
    caption = html.escape(CAPTIONS[name])
    return (
        f'<figure{wide}><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="table"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
