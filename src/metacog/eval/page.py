"""The report as one HTML page that loads nothing."""

import base64
import html
from collections.abc import Mapping, Sequence, Set
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
    "gate": "Where the gate's switch is on in replies without a budget.",
    "plans": "Which plan the layer chose, by family, under the learned budgets.",
    "wrong": "Mean THINK tokens of right and wrong replies, without a budget and under the learned "
    "ones, and the share that is wrong there.",
    "lengths": "Accuracy and mean length if every reply without a budget were closed under one cap, from "
    "0 to the longest; the ring is the smallest cap within half a point of the best, the star where "
    "learned budgets land.",
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
    lead = (
        f"{summary['n']} questions, sampling seeds {seeds}, {summary['generations']} replies, "
        f"{summary['cap_violations']} over their cap."
    )
    parts = [
        f'<div class="tiles">{"".join(_tiles(summary))}</div>',
        "<h2>Pictures</h2>",
        html_figures(pictures, CAPTIONS, wide={"curve", "alpha", "lengths"}),
        *(html_table(table) for table in tables),
        html_table(Table("Made by", ("", ""), tuple(provenance.items()))),
    ]
    return html_document(title, lead, parts)


def html_document(title: str, lead: str, parts: Sequence[str]) -> str:
    """Return a page of a heading, a sentence under it, and parts that are HTML already."""
    heading = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{html.escape(lead)}</p>']
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join([*heading, *parts])}\n</main></body></html>\n"
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


def html_figures(
    pictures: Mapping[str, bytes], captions: Mapping[str, str], *, wide: Set[str] = frozenset()
) -> str:
    """Return pictures with their captions as HTML; those named wide take a whole row."""
    figures = "".join(
        _figure(picture, captions[name], is_wide=name in wide) for name, picture in pictures.items()
    )
    return f'<div class="figures">{figures}</div>'


def _figure(picture: bytes, caption: str, *, is_wide: bool) -> str:
    wide = ' class="wide"' if is_wide else ""
    data, text = base64.b64encode(picture).decode("ascii"), html.escape(caption)
    return (
        f'<figure{wide}><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def html_table(table: Table) -> str:
    """Return a table with its heading as HTML."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="table"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
