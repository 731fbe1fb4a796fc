"""`metacog report`: the course of a run as a page with plots."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a training run.")],
) -> None:
    """Write RUN/report: a page with plots, Markdown, and the numbers behind each picture."""
    from metacog.eval.course_report import write_course_report
    from metacog.telemetry.rundir import RunDir

    page = write_course_report(RunDir(run))
    typer.echo(page.absolute())
