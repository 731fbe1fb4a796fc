"""Keys, palette, themes, mouse and colours."""

import os

import pytest
from textual.widgets import HelpPanel, Static

from metacog.telemetry.attempt import Attempt
from metacog.telemetry.events import Event
from metacog.tui.app import watching
from metacog.tui.screens.inspect import InspectScreen
from metacog.tui.theme import THEMES
from metacog.tui.widgets.scrubber import Scrubber
from tests.tui.conftest import WriteRun, event, puzzle
from tests.tui.test_dashboard import SIZE, painted, said
from tests.tui.whole import whole_run

pytestmark = pytest.mark.asyncio


async def test_f1_shows_and_hides_the_keys(write_run: WriteRun, some_events: list[Event]) -> None:
    app = watching(write_run(some_events))
    async with app.run_test(size=SIZE) as pilot:
        await painted(pilot)
        await pilot.press("f1")
        assert app.screen.query(HelpPanel)
        await pilot.press("f1")
        await pilot.pause(0.1)
        assert not app.screen.query(HelpPanel)


@pytest.mark.parametrize("theme", [theme.name for theme in THEMES])
async def test_every_theme_shows_the_same_words(write_run: WriteRun, theme: str) -> None:
    app = watching(write_run(whole_run()))
    async with app.run_test(size=SIZE) as pilot:
        app.theme = theme
        dashboard = await painted(pilot)
        await pilot.pause(0.3)
        assert "● OK" in said(dashboard, "data")
        assert "█" in said(dashboard, "metacog")
        assert "pad" in app.export_screenshot()


async def test_no_color_leaves_words_and_no_hue(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = watching(write_run(whole_run()))
    async with app.run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        assert app.no_color
        assert "▲" in said(dashboard, "alerts")
        assert "right" in said(dashboard, "eval")


async def test_a_click_on_the_line_of_steps_goes_there(write_run: WriteRun) -> None:
    async with watching(write_run(whole_run())).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        await pilot.click(Scrubber, offset=(61, 0))
        await pilot.pause(0.8)
        assert dashboard.at == pytest.approx(200, abs=8)
        assert "REPLAY" in str(dashboard.query_one("#status", Static).content)
        assert "◆" in str(dashboard.query_one(Scrubber).content)
        await pilot.press("comma")
        assert dashboard.at in {150, 200}
        here = dashboard.at
        await pilot.press("full_stop")
        assert dashboard.at == here + 50


async def test_a_schedule_shows_its_newest_stage_and_s_the_one_before(write_run: WriteRun) -> None:
    stages = [
        event(0, "status", message="stage 1 of 2", path="/elsewhere/1-imitate"),
        event(1, "status", message="stage 2 of 2", path="/elsewhere/2-practice"),
    ]
    run = write_run(stages)
    for name, loss in (("1-imitate", 7.25), ("2-practice", 3.5)):
        inner = write_run([event(9, "metrics", train__loss=loss)], name=f"r/{name}")
        assert inner.path.parent == run.path
    async with watching(run).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        await pilot.pause(0.6)
        assert "3.5" in said(dashboard, "global")
        assert "r/2-practice" in str(dashboard.query_one("#status", Static).content)
        await pilot.press("s")
        await pilot.pause(0.8)
        assert "7.25" in said(dashboard, "global")
        await pilot.press("s")
        await pilot.pause(0.8)
        assert "3.5" in said(dashboard, "global")


async def test_f_folds_thinking_and_f2_saves_a_picture(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run([puzzle(1)])
    monkeypatch.chdir(run.path)
    app = watching(run)
    async with app.run_test(size=SIZE) as pilot:
        await painted(pilot)
        await pilot.press("t")
        reply = app.screen.query_one("#reply", Static)
        assert "so 3" in str(reply.content)
        await pilot.press("f")
        assert "so 3" not in str(reply.content)
        assert "folded" in str(reply.content)
        await pilot.press("f2")
        assert "folded" in (run.path / "metacog-1.svg").read_text().replace("&#160;", " ")
        await pilot.press("escape", "f2")
        assert (run.path / "metacog-2.svg").read_text().startswith("<svg")


async def test_the_palette_finds_a_key_by_what_it_does(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    app = watching(write_run(some_events))
    async with app.run_test(size=SIZE) as pilot:
        await painted(pilot)
        await pilot.press("ctrl+p")
        await pilot.pause(0.3)
        assert type(app.screen).__name__ == "CommandPalette"
        await pilot.press(*"thinking")
        await pilot.pause(0.8)
        await pilot.press("enter")
        await pilot.pause(0.3)
        if type(app.screen).__name__ == "CommandPalette":
            await pilot.press("enter")
            await pilot.pause(0.3)
        assert app.screen.query("#reply")


async def test_a_trainer_that_dies_behind_another_screen_is_told_when_one_is_back(
    write_run: WriteRun,
) -> None:
    run = write_run(whole_run())
    attempt = Attempt.next(run)
    app = watching(run)
    async with app.run_test(size=SIZE) as pilot:
        with attempt.streams() as (_, err):
            attempt.note(os.getpid())
            dashboard = await painted(pilot)
            await pilot.pause(0.6)
            assert dashboard.follower.pid == os.getpid()
            await pilot.press("t")
            err.write(b"first\nCUDA [bold]out of memory\x1b[31m\n")
        await pilot.press("n", "f", "p")
        await pilot.resize_terminal(20, 5)
        await pilot.resize_terminal(*SIZE)
        await pilot.pause(0.6)
        assert app.screen.query("#reply")
        await pilot.press("escape")
        await pilot.pause(0.8)
        assert "GONE" in str(dashboard.query_one("#status", Static).content)
        notice = str(dashboard.query_one("#notice", Static).content)
        assert notice == "Its process ended. It last said: CUDA [bold]out of memory␛[31m"


async def test_what_an_earlier_process_said_is_no_last_word(write_run: WriteRun) -> None:
    run = write_run([event(1, "log", message="later", time=1_800_000_000.0)])
    with Attempt.next(run).streams() as (_, err):
        err.write(b"an old error\n")
    os.utime(run.logs / "attempt-1" / "err.log", (1_750_000_000, 1_750_000_000))
    async with watching(run).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        await pilot.pause(0.6)
        assert "GONE" in str(dashboard.query_one("#status", Static).content)
        assert "an old error" not in str(dashboard.query_one("#notice", Static).content)


async def test_i_asks_the_model_of_the_run(write_run: WriteRun, some_events: list[Event]) -> None:
    run = write_run(some_events)
    app = watching(run)
    async with app.run_test(size=SIZE) as pilot:
        await painted(pilot)
        await pilot.press("i")
        assert not isinstance(app.screen, InspectScreen), "nothing was saved yet"
        run.checkpoint(9).mkdir()
        run.checkpoint(10).mkdir()
        os.utime(run.checkpoint(9), (1, 1))
        await pilot.press("i")
        assert isinstance(app.screen, InspectScreen)
        assert app.screen.model == str(run.checkpoint(10))
        await pilot.press("escape")
        run.final.mkdir()
        await pilot.press("i")
        assert isinstance(app.screen, InspectScreen)
        assert app.screen.model == str(run.final)
