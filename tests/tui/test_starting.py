"""Runs that are started from the launcher, on a disk with and without room."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from metacog.config import RunConfig
from metacog.telemetry.attempt import trainer_of
from metacog.telemetry.lock import holder
from metacog.telemetry.rundir import RunDir
from metacog.tui.app import Cockpit, cockpit
from metacog.tui.follow import Pulse
from metacog.tui.runs import list_runs
from metacog.tui.screens.boot import BootScreen
from metacog.tui.screens.dashboard import Dashboard
from metacog.tui.screens.launcher import LauncherScreen
from tests.faults.processes import BELOW_A_CHECKPOINT, imitation, room_of, written

SIZE = (120, 40)
_PATIENCE = 240


@pytest.fixture
def started() -> Iterator[list[RunDir]]:
    """Runs that are killed when the test ends, however it ends."""
    runs: list[RunDir] = []
    yield runs
    for run in runs:
        if (pid := holder(run.lock)) is not None:
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def recipes(tmp_path: Path, tiny_directory: Path) -> Path:
    """A directory with one recipe, which trains long."""
    shutil.copytree(tiny_directory, tmp_path / "base")
    document = imitation(tmp_path / "base")
    directory = tmp_path / "recipes"
    directory.mkdir()
    run_section = {**document["run"], "steps": 100_000, "name": "mine"}  # type: ignore[dict-item]
    written({**document, "run": run_section}, directory / "tiny.yaml")
    return directory


async def until(is_so: Callable[[], bool], pilot: Pilot[None]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not is_so():
        assert time.monotonic() < give_up
        await pilot.pause(0.2)


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_a_fresh_form_can_be_started_as_it_stands(tmp_path: Path) -> None:
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        await app.push_screen(LauncherScreen(tmp_path / "runs", tmp_path))
        await pilot.press("s")
        boot = app.screen
        assert isinstance(boot, BootScreen)
        await until(lambda: boot.is_right or boot.wrong is not None, pilot)
        assert boot.wrong is None


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_a_run_is_started_shown_stopped_and_the_form_is_as_before(
    tmp_path: Path, recipes: Path, started: list[RunDir]
) -> None:
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        screen = LauncherScreen(tmp_path / "runs", recipes)
        await app.push_screen(screen)
        await pilot.press("p", "enter")
        await pilot.pause(0.2)
        wanted = screen.form.config
        await pilot.press("s")
        boot = app.screen
        assert isinstance(boot, BootScreen)
        await pilot.press("enter")
        assert app.screen is boot, "nothing starts before all is right"
        await until(lambda: boot.is_right or boot.wrong is not None, pilot)
        assert boot.wrong is None
        assert not (tmp_path / "runs").exists()
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Dashboard), pilot)
        dashboard = app.screen
        assert isinstance(dashboard, Dashboard)
        follower = dashboard.follower
        started.append(follower.run)
        assert screen.form.config == RunConfig()
        assert follower.run.load_config() == wanted
        await until(lambda: "train/loss" in follower.state.latest, pilot)
        assert follower.pid is not None
        assert os.getsid(follower.pid) == follower.pid
        await pilot.press("x")
        await until(lambda: follower.state.end is not None, pilot)
        assert follower.state.end == "stopped"
        assert follower.run.stopped.is_dir()
        assert (follower.run.logs / "attempt-1" / "err.log").is_file()


async def checked(app: Cockpit, pilot: Pilot[None], screen: LauncherScreen) -> None:
    """Fill the form from the only recipe and let everything be checked."""
    await app.push_screen(screen)
    await pilot.press("p", "enter")
    await pilot.pause(0.2)
    await pilot.press("s")
    boot = app.screen
    assert isinstance(boot, BootScreen)
    await until(lambda: boot.is_right or boot.wrong is not None, pilot)
    assert boot.wrong is None


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_a_disk_that_is_full_at_the_start_leaves_nothing_and_the_form_as_it_was(
    tmp_path: Path, recipes: Path
) -> None:
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        screen = LauncherScreen(tmp_path / "runs", recipes)
        await checked(app, pilot, screen)
        wanted = screen.form.config
        with room_of(0):
            await pilot.press("enter")
            await app.workers.wait_for_complete()
            await pilot.pause(0.3)
        assert app.screen is screen
        told = [note.message for note in app._notifications]
        assert len(told) == 1
        assert os.strerror(errno.EFBIG) in told[0]
        assert screen.form.config == wanted
        assert list((tmp_path / "runs").iterdir()) == []


async def last_words(app: Cockpit, pilot: Pilot[None], started: list[RunDir]) -> str:
    """Confirm the start, wait until the run has ended, and return what the dashboard says of it."""
    await pilot.press("enter")
    await until(lambda: isinstance(app.screen, Dashboard), pilot)
    dashboard = app.screen
    assert isinstance(dashboard, Dashboard)
    follower = dashboard.follower
    started.append(follower.run)
    assert trainer_of(follower.run) is not None, "it lives before it has said anything"
    await until(lambda: follower.pulse() is Pulse.GONE, pilot)
    await pilot.pause(1.0)
    assert trainer_of(follower.run) is None
    return str(dashboard.query_one("#notice", Static).content)


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_a_run_that_dies_before_its_first_event_is_gone_with_its_reason(
    tmp_path: Path, recipes: Path, started: list[RunDir]
) -> None:
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        await checked(app, pilot, LauncherScreen(tmp_path / "runs", recipes))
        shutil.rmtree(tmp_path / "base")
        said = await last_words(app, pilot, started)
        assert str(tmp_path / "base") in said
        assert not started[0].events.exists()
        (listed,) = list_runs(tmp_path / "runs")
        assert listed.word == "✖ crashed"


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_a_disk_that_is_full_later_ends_the_run_and_not_the_cockpit(
    tmp_path: Path, recipes: Path, started: list[RunDir]
) -> None:
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        await checked(app, pilot, LauncherScreen(tmp_path / "runs", recipes))
        with room_of(BELOW_A_CHECKPOINT):
            said = await last_words(app, pilot, started)
        assert os.strerror(errno.EFBIG) in said
        assert started[0].leftovers() == []
