"""The dashboard, driven by its keys."""

import json

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from metacog.telemetry.events import Event
from metacog.telemetry.rewind import rewind
from metacog.tui.app import Cockpit, watching
from metacog.tui.screens.dashboard import Dashboard
from metacog.tui.screens.puzzles import PuzzlesScreen
from metacog.tui.state import RunState
from metacog.tui.widgets.panel import Panel
from metacog.tui.widgets.panels import PANELS
from tests.tui.conftest import WriteRun, event, lines, puzzle

pytestmark = pytest.mark.asyncio
SIZE = (120, 40)
MARKUP = "[bold red]not bold[/] [link=x]y[/link] \x1b[31mred\x1b]0;title\x07 \ud800 \u202eback"


async def painted(pilot: Pilot[None]) -> Dashboard:
    await pilot.pause(0.1)
    for _ in range(20):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause(0.05)
        dashboard = pilot.app.screen_stack[-1]
        if isinstance(dashboard, Dashboard) and dashboard.shown.num_events:
            break
    await pilot.pause(0.1)
    assert isinstance(dashboard, Dashboard)
    return dashboard


def said(dashboard: Dashboard, name: str) -> str:
    return str(dashboard.query_one(f"#{name}", Panel).query_one(Static).content)


def shown(dashboard: Dashboard) -> list[str]:
    return [panel.id for panel in dashboard.query(Panel) if panel.is_on_screen and panel.id]


async def test_every_panel_says_what_is_known(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    app = watching(write_run(some_events))
    async with app.run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        assert shown(dashboard) == [
            n for c in ("global data", "metacog feedback", "eval alerts log") for n in c.split()
        ]
        assert "4" in said(dashboard, "global")
        assert f"{'reward':<15}{'--':>8}" in said(dashboard, "global")
        assert "right" in said(dashboard, "eval")
        assert "since 100" in said(dashboard, "eval")
        assert "gradient is large" in said(dashboard, "alerts")
        assert "hello" in said(dashboard, "log")
        assert "-- unknown" in said(dashboard, "data")


async def test_what_is_not_finite_is_said(write_run: WriteRun) -> None:
    app = watching(write_run([event(1, "metrics", train__grad_norm=None)]))
    async with app.run_test(size=SIZE) as pilot:
        assert "NaN" in said(await painted(pilot), "global")


async def test_new_events_appear(write_run: WriteRun, some_events: list[Event]) -> None:
    run = write_run(some_events)
    async with watching(run).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        with run.events.open("a", encoding="utf-8") as file:
            file.write(lines([event(110, "log", message="a later word")]))
        await pilot.pause(1.0)
        assert "a later word" in said(dashboard, "log")


async def test_a_run_that_goes_on_from_a_checkpoint_is_shown_anew(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    run = write_run([*some_events, event(120, "log", message="a lost word")])
    async with watching(run).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        assert "a lost word" in said(dashboard, "log")
        assert rewind(run.events, 100, kept_in=run.logs) == 1
        anew = [event(100, "config", filler="x" * 9_000), event(101, "log", message="on again")]
        with run.events.open("a", encoding="utf-8") as file:
            file.write(lines(anew))
        await pilot.pause(1.0)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause(0.2)
        assert "on again" in said(dashboard, "log")
        assert "a lost word" not in said(dashboard, "log")
        assert not dashboard.query_one("#notice").display


async def test_digits_choose_and_enter_and_escape_zoom(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    async with watching(write_run(some_events)).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        for key, name in enumerate(PANELS, 1):
            await pilot.press(str(key))
            assert dashboard.focused is dashboard.query_one(f"#{name}")
        await pilot.press("5", "enter")
        await pilot.pause(0.1)
        assert shown(dashboard) == ["eval"]
        await pilot.press("2")
        await pilot.pause(0.1)
        assert shown(dashboard) == ["metacog"]
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert len(shown(dashboard)) == len(PANELS)


async def test_a_small_terminal_shows_one_panel(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    async with watching(write_run(some_events)).run_test(size=(80, 24)) as pilot:
        dashboard = await painted(pilot)
        assert shown(dashboard) == ["global"]
        await pilot.press("5")
        await pilot.pause(0.5)
        assert shown(dashboard) == ["eval"]
        assert "right" in said(dashboard, "eval")


async def test_a_storm_of_resizes_is_survived(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    async with watching(write_run(some_events)).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        for width in (40, 300, 10, 1, 81, 200, 120):
            await pilot.resize_terminal(width, max(width // 3, 1))
        await pilot.pause(0.6)
        assert len(shown(dashboard)) == len(PANELS)


async def test_what_was_read_for_a_screen_that_is_gone_is_dropped(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    async with watching(write_run(some_events)).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        shown_last = dashboard.shown
        await dashboard.query("*").remove()
        dashboard._paint(RunState())
        assert dashboard.shown is shown_last


async def test_space_holds_the_view(write_run: WriteRun, some_events: list[Event]) -> None:
    run = write_run(some_events)
    async with watching(run).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        await pilot.press("space")
        with run.events.open("a", encoding="utf-8") as file:
            file.write(lines([event(110, "log", message="a later word")]))
        await pilot.pause(1.0)
        assert "a later word" not in said(dashboard, "log")
        await pilot.press("space")
        await pilot.pause(1.0)
        assert "a later word" in said(dashboard, "log")


async def test_brackets_home_and_end_go_through_time(
    write_run: WriteRun, some_events: list[Event]
) -> None:
    async with watching(write_run(some_events)).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        await pilot.press("left_square_bracket")
        await pilot.pause(0.6)
        assert dashboard.at == 95
        assert dashboard.shown.step == 90
        assert "REPLAY" in str(dashboard.query_one("#status", Static).content)
        await pilot.press("home")
        await pilot.pause(0.6)
        assert f"{'loss':<15}{'--':>8}" in said(dashboard, "global")
        await pilot.press("right_square_bracket")
        assert dashboard.at == 5
        await pilot.press("end")
        await pilot.pause(0.6)
        assert dashboard.at is None
        assert "hello" in said(dashboard, "log")


async def test_thinking_is_written_out_puzzle_by_puzzle(write_run: WriteRun) -> None:
    run = write_run([puzzle(1), puzzle(1, number=2, thinking="second thought")])
    async with watching(run).run_test(size=SIZE) as pilot:
        await painted(pilot)
        await pilot.press("t")
        assert isinstance(pilot.app.screen, PuzzlesScreen)
        reply = pilot.app.screen.query_one("#reply", Static)
        assert "so 3" in str(reply.content)
        await pilot.press("n")
        assert "second thought" in str(reply.content)
        await pilot.press("p")
        assert "so 3" in str(reply.content)
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, Dashboard)


@pytest.mark.parametrize("where", ["question", "answer", "thinking", "wanted", "plan"])
async def test_a_model_s_text_is_shown_literally(write_run: WriteRun, where: str) -> None:
    run = write_run()
    sample = puzzle(1, correct=False, **{where: MARKUP})
    told = {"v": 1, "t": 1.0, "run": "r", "step": 1, "kind": "sample", "data": dict(sample.data)}
    log = {**told, "kind": "log", "data": {"message": MARKUP}}
    run.events.write_text(f"{json.dumps(told)}\n{json.dumps(log)}\n", encoding="utf-8")
    async with watching(run).run_test(size=(200, 60)) as pilot:
        dashboard = await painted(pilot)
        assert "[bold red]not bold[/]" in said(dashboard, "log")
        await pilot.press("t")
        await pilot.pause(0.1)
        reply = str(pilot.app.screen.query_one("#reply", Static).content)
        assert "[bold red]not bold[/]" in reply
        picture = pilot.app.export_screenshot()
        for text in (said(dashboard, "log"), reply, picture):
            assert not {"\x1b", "\x07", "\ud800", "\u202e"} & set(text)
        assert "␛[31mred" in said(dashboard, "log")


async def test_watch_has_no_way_to_stop(write_run: WriteRun, some_events: list[Event]) -> None:
    async with watching(write_run(some_events)).run_test(size=SIZE) as pilot:
        dashboard = await painted(pilot)
        await pilot.press("x")
        await pilot.pause(0.2)
        assert not dashboard.query_one("#notice").display


async def test_q_leaves(write_run: WriteRun, some_events: list[Event]) -> None:
    app: Cockpit = watching(write_run(some_events))
    async with app.run_test(size=SIZE) as pilot:
        await painted(pilot)
        await pilot.press("q")
        await pilot.pause(0.1)
    assert app.return_code == 0
