"""What the screens look like at three sizes; `pytest --snapshot-update` takes new ones."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.image import SVGImageSnapshotExtension
from textual.pilot import Pilot
from textual.widgets import Input

from metacog.tui.app import Cockpit, watching
from metacog.tui.screens import inspect as inspect_module
from metacog.tui.screens.inspect import InspectScreen
from metacog.tui.screens.launcher import LauncherScreen
from tests.tui.conftest import WriteRun, event
from tests.tui.pictures import SIZES, picture_of
from tests.tui.test_dashboard import painted
from tests.tui.test_inspect import ask, speaker, until
from tests.tui.test_launcher import go_to
from tests.tui.whole import STEPS, whole_run

pytestmark = pytest.mark.asyncio


@pytest.fixture
def picture(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SVGImageSnapshotExtension)


def size_name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@pytest.mark.parametrize("size", SIZES, ids=size_name)
async def test_the_dashboard(
    size: tuple[int, int], write_run: WriteRun, picture: SnapshotAssertion
) -> None:
    async def drive(pilot: Pilot[None]) -> None:
        await painted(pilot)

    run = write_run([*whole_run(), event(STEPS, "status", message="done")])
    shown = await picture_of(watching(run), size, drive)
    assert shown == picture


@pytest.mark.parametrize("key", ["2", "3", "5"], ids=["metacog", "feedback", "eval"])
async def test_a_panel_alone(key: str, write_run: WriteRun, picture: SnapshotAssertion) -> None:
    async def drive(pilot: Pilot[None]) -> None:
        await painted(pilot)
        await pilot.press(key, "enter")
        await pilot.pause(0.8)

    run = write_run([*whole_run(), event(STEPS, "status", message="done")])
    shown = await picture_of(watching(run), SIZES[1], drive)
    assert shown == picture


async def test_a_replay(write_run: WriteRun, picture: SnapshotAssertion) -> None:
    async def drive(pilot: Pilot[None]) -> None:
        await painted(pilot)
        await pilot.press("comma", "comma", "comma")
        await pilot.pause(0.8)

    run = write_run([*whole_run(), event(STEPS, "status", message="done")])
    shown = await picture_of(watching(run), SIZES[1], drive)
    assert shown == picture


@pytest.mark.parametrize("size", SIZES, ids=size_name)
async def test_the_launcher(
    size: tuple[int, int], tmp_path: Path, picture: SnapshotAssertion
) -> None:
    screen = LauncherScreen(tmp_path / "runs")

    async def drive(pilot: Pilot[None]) -> None:
        for key, value in (("run.steps", "1_000_000_000"), ("run.batch", "0")):
            go_to(screen, key)
            await pilot.press("enter")
            screen.query_one("#typed", Input).value = value
            await pilot.press("enter")
        go_to(screen, "run.batch")
        await pilot.pause(0.8)

    assert await picture_of(Cockpit(screen), size, drive) == picture


@pytest.mark.parametrize("size", SIZES, ids=size_name)
async def test_a_model_that_is_asked(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, picture: SnapshotAssertion
) -> None:
    monkeypatch.setattr(inspect_module, "command", lambda _: speaker())
    screen = InspectScreen("nano")

    async def drive(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: screen.state == "● READY")
        await ask(pilot, screen, "How many bits of 7 are set?")
        await until(pilot, lambda: screen.question is not None and screen.question.is_over)
        screen.query_one("#prompt", Input).cursor_blink = False
        await pilot.pause(0.4)

    shown = await picture_of(Cockpit(screen), size, drive)
    assert shown == picture
