"""`metacog` alone and `metacog watch`: the cockpit."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from metacog.errors import InputError

RUNS = Path("runs")
_WEB_DRIVER = "TEXTUAL_DRIVER"
"""Set by what serves the cockpit to a browser, which is its terminal then."""


def cockpit(
    browser: Annotated[
        bool, typer.Option("--browser", help="Serve it to this machine's browser instead.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="For --browser.")] = 8270,
) -> None:
    """Open the cockpit, as `metacog` alone does: start runs and see what happens in them."""
    if browser:
        _serve(port)
        return
    _require_terminal()
    from metacog.tui.app import cockpit as built

    built(RUNS).run()


def _serve(port: int) -> None:
    if find_spec("textual_serve") is None:
        raise InputError(
            "Wanted the package textual-serve for --browser, but it is not installed. "
            "Install the extra `browser`: pip install 'metacog[browser]'."
        )
    from metacog.tui.browser import serve

    serve(port)


def watch(run: Annotated[Path, typer.Argument(help="Directory of a run.")]) -> None:
    """Show a run, live or finished, without touching it."""
    _require_terminal()
    from metacog.telemetry.rundir import RunDir
    from metacog.tui.app import watching

    watching(RunDir.open(run)).run()


def attach(run: Annotated[Path, typer.Argument(help="Directory of a run.")]) -> None:
    """Show a run as `watch` does, with the key that stops it."""
    _require_terminal()
    from metacog.telemetry.rundir import RunDir
    from metacog.tui.app import attached

    attached(RunDir.open(run)).run()


def stop(
    run: Annotated[Path, typer.Argument(help="Directory of a run.")],
    kill: Annotated[bool, typer.Option("--kill", help="Kill it, whatever it does.")] = False,
) -> None:
    """Ask a run to stop: it finishes its step and saves. Asked again, it ends at once, unsaved."""
    from metacog.telemetry.attempt import trainer_of
    from metacog.telemetry.lock import holder
    from metacog.telemetry.rundir import RunDir
    from metacog.tui.stop import Ladder

    found = RunDir.open(run)
    pid = holder(found.lock) or trainer_of(found)
    if pid is None:
        raise InputError(
            f"Wanted to stop the run in {found.path}, but no process trains there. "
            "There is nothing to stop."
        )
    ladder = Ladder()
    ladder.kill(pid) if kill else ladder.step(pid)
    typer.echo(ladder.said)


def is_terminal() -> bool:
    """Say whether there is a terminal to read keys from and draw on."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _require_terminal() -> None:
    if find_spec("textual") is None:
        raise InputError(
            "Wanted the package textual for the cockpit, but it is not installed. "
            "Install the extra `tui`: pip install 'metacog[tui]'."
        )
    if not is_terminal() and _WEB_DRIVER not in os.environ:
        raise InputError(
            "Wanted a terminal for the cockpit, got a file or pipe. Run it in a terminal, or read "
            "events.jsonl in the run's directory."
        )
