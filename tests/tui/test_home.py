"""The list of runs: what each is, and what can be done with it from here."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from metacog.config import dump, load
from metacog.telemetry.events import Event
from metacog.telemetry.lock import locked
from metacog.tui.app import cockpit
from metacog.tui.follow import Pulse, Whole
from metacog.tui.runs import list_runs
from metacog.tui.screens.dashboard import Dashboard
from metacog.tui.screens.home import HomeScreen
from metacog.tui.screens.launcher import LauncherScreen
from tests.contracts.source import ROOT
from tests.tui.conftest import WriteRun, event

SIZE = (120, 40)


def rows(screen: HomeScreen) -> list[str]:
    return [str(o.prompt) for o in screen.query_one("#runs", OptionList).options]


def said(screen: HomeScreen) -> str:
    return str(screen.query_one("#said", Static).content)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Make a name that no one, root included, can look behind: a link to itself."""
    path.symlink_to(path.name)
    yield
    path.unlink()


def test_each_run_is_called_what_it_is(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("done", "stopped", "crashed"):
        write_run(name=name)
    (tmp_path / "done" / "final").mkdir()
    (tmp_path / "stopped" / "stopped").mkdir()
    (tmp_path / "no-run").mkdir()
    (tmp_path / "loop").mkdir()
    with unreadable(tmp_path / "loop" / "config.yaml"):
        found = {listed.run.name: listed.word for listed in list_runs(tmp_path)}
    assert found == {
        "done": "● done",
        "stopped": "■ stopped",
        "crashed": "✖ crashed",
        "loop": "✖ no access",
    }


CONFIG, NUMBERS = event(0, "config", filler="x" * 4_000), event(9, "metrics", train__loss=1.0)
STAGE, WARNING = (
    event(0, "status", message="stage 1 of 2"),
    event(9, "alert", message="a sink failed"),
)
STOPPED, DONE = event(9, "status", message="stopped"), event(9, "status", message="done")


@pytest.mark.parametrize(
    ("events", "word", "pulse"),
    [
        ([CONFIG, STOPPED], "■ stopped", Pulse.STOPPED),
        ([CONFIG, NUMBERS, DONE, WARNING], "● done", Pulse.DONE),
        ([STAGE, STOPPED], "■ stopped", Pulse.STOPPED),
        ([STAGE, STOPPED, STAGE], "✖ crashed", Pulse.GONE),
        ([CONFIG, STOPPED, CONFIG], "✖ crashed", Pulse.GONE),
        ([CONFIG, STOPPED, CONFIG, *[NUMBERS] * 999], "✖ crashed", Pulse.GONE),
    ],
)
@pytest.mark.parametrize("saved", ["stopped", "nothing"])
def test_the_last_word_of_a_log_counts_as_on_the_dashboard(
    write_run: WriteRun, tmp_path: Path, saved: str, events: list[Event], word: str, pulse: Pulse
) -> None:
    run = write_run(events)
    (run.path / saved).mkdir()
    with run.events.open("a", encoding="utf-8") as file:
        file.write('{"v":1,"t":1.0,"kind":"status","data":{"message":"do')  # killed while it wrote
    assert [listed.word for listed in list_runs(tmp_path)] == [word]
    whole = Whole(run)
    whole.look()
    assert whole.pulse() is pulse


def test_what_trains_comes_first(write_run: WriteRun, tmp_path: Path) -> None:
    held = write_run(name="held")
    later = write_run(name="later")
    os.utime(held.events, (1, 1))
    with locked(held.lock):
        assert [r.run.name for r in list_runs(tmp_path)] == ["held", "later"]
    assert [r.run.name for r in list_runs(tmp_path)] == [later.name, held.name]


async def listed(pilot: Pilot[None]) -> HomeScreen:
    await pilot.pause(0.1)
    await pilot.app.workers.wait_for_complete()
    await pilot.pause(0.1)
    screen = pilot.app.screen
    assert isinstance(screen, HomeScreen)
    return screen


@pytest.mark.asyncio
async def test_keys_open_fork_and_refuse(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(name="mine")
    run.config.write_text(dump(load(ROOT / "recipes" / "imitate.yaml")), encoding="utf-8")
    run.final.mkdir()
    app = cockpit(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        screen = await listed(pilot)
        assert "mine" in rows(screen)[0]
        await pilot.press("x")
        await pilot.pause(0.1)
        assert "nothing to stop" in said(screen)
        await pilot.press("r")
        await pilot.pause(0.2)
        assert "has come to its end" in said(screen)
        assert app.screen is screen
        await pilot.press("f")
        await pilot.pause(0.3)
        assert isinstance(app.screen, LauncherScreen)
        assert app.screen.form.config is not None
        assert app.screen.form.config.run.objective.kind == "imitate"
        await pilot.press("escape")
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert isinstance(app.screen, Dashboard)


@pytest.mark.asyncio
async def test_a_damaged_configuration_is_told(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(name="mine").config.write_text("run: [", encoding="utf-8")
    async with cockpit(tmp_path).run_test(size=SIZE) as pilot:
        screen = await listed(pilot)
        await pilot.press("f")
        await pilot.pause(0.3)
        assert pilot.app.screen is screen
        assert "wanted YAML" in said(screen)


@pytest.mark.asyncio
async def test_a_place_that_holds_no_runs_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with cockpit(tmp_path / "file").run_test(size=SIZE) as pilot:
        assert "cannot be read" in said(await listed(pilot))
