"""Asking a model from the cockpit: with a real model in a child process, and with children that fail."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from metacog.tui import child as child_module
from metacog.tui.app import Cockpit
from metacog.tui.asked import Question
from metacog.tui.screens import inspect as inspect_module
from metacog.tui.screens.inspect import InspectScreen
from metacog.tui.widgets.inspected import reading_lines, side_lines

pytestmark = pytest.mark.asyncio
SIZE = (140, 40)
EXPERT = {"plan": [0.1, 0.9], "budget": 33.0, "confidence": 0.6, "alpha": 0.75}
READING = {
    "kind": "reading",
    "cap": 20,
    "plan": "verify",
    "reading": {
        "plan": {"direct": 0.2, "verify": 0.8},
        "budget": 20,
        "confidence": 0.9,
        "per_layer": [{**EXPERT, "alpha": 0.25}, EXPERT],
        "calibration": None,
    },
}
# Speaks as `metacog inspect` does, and does what its question says.
SPEAKER = r"""
import json, sys, time
tell = lambda **line: print(json.dumps(line), flush=True)
tell(kind="ready", layer=True, gate=True)
for line in sys.stdin:
    told = json.loads(line)
    if told.get("stop"):
        tell(kind="done", stopped=True)
        continue
    prompt = told["prompt"]
    if prompt == "die":
        sys.stderr.write("out of [bold]memory[/]\n")
        sys.exit(3)
    if prompt == "long":
        print("x" * (1 << 25), flush=True)
        continue
    if prompt == "odd":
        print("no json", flush=True)
    tell(kind="reading", **READING)
    for side in ("on", "off"):
        tell(kind="token", side=side, segment="think", sampled=True, think=prompt, answer="")
    if prompt != "slow":
        for side in ("on", "off"):
            tell(kind="reply", side=side, think="", answer="[b]7[/]\x1b[31m", finished=True, forced=0,
                 gate=None, budget={"enforced": 20, "close_reason": "natural", "revisions": []})
        tell(kind="done", stopped=False)
"""


def speaker() -> list[str]:
    reading = {name: value for name, value in READING.items() if name != "kind"}
    return [sys.executable, "-c", f"READING = {reading!r}\n{SPEAKER}"]


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_module, "command", lambda _: speaker())


async def until(pilot: Pilot[None], is_so: Callable[[], bool], seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.1)):
        if is_so():
            await pilot.pause(0.4)
            return
        await pilot.pause(0.1)
    raise AssertionError("It did not come about.")


def said(screen: InspectScreen, name: str) -> str:
    return str(screen.query_one(f"#{name}-text", Static).content)


async def ask(pilot: Pilot[None], screen: InspectScreen, prompt: str) -> None:
    screen.query_one("#prompt", Input).value = prompt
    screen.query_one("#prompt", Input).focus()
    await pilot.press("enter")


@pytest.mark.usefixtures("speaks")
async def test_a_question_is_read_thought_about_and_answered() -> None:
    screen = InspectScreen("nano")
    async with Cockpit(screen).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.state == "● READY")
        await ask(pilot, screen, "think of [i]this[/]")
        await until(pilot, lambda: screen.question is not None and screen.question.is_over)
        reading = said(screen, "reading")
        for word in ("20 tokens", "90%", "verify", "80%", "L1", "0.75", "33", "60%"):
            assert word in reading
        for side in ("on", "off"):
            assert "think of [i]this[/]" in said(screen, side)
            assert "[b]7[/]␛[31m" in said(screen, side)
            assert "1/20" in said(screen, side)
            assert "closed: natural" in said(screen, side)
        assert "\x1b" not in pilot.app.export_screenshot()


@pytest.mark.usefixtures("speaks")
async def test_ctrl_x_stops_a_reply_and_another_can_be_asked() -> None:
    screen = InspectScreen("nano")
    async with Cockpit(screen).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.state == "● READY")
        await ask(pilot, screen, "slow")
        await until(pilot, lambda: "slow" in said(screen, "on"))
        await ask(pilot, screen, "too early")
        assert screen.question is not None
        assert screen.question.prompt == "slow"
        await pilot.press("ctrl+x")
        await until(pilot, lambda: screen.question is not None and screen.question.is_over)
        assert "stopped" in said(screen, "on")
        await ask(pilot, screen, "odd")
        await until(pilot, lambda: "natural" in said(screen, "on"))


@pytest.mark.usefixtures("speaks")
async def test_a_budget_that_is_none_is_refused() -> None:
    screen = InspectScreen("nano")
    async with Cockpit(screen).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.state == "● READY")
        await pilot.press("ctrl+b")
        assert pilot.app.focused is screen.query_one("#budget")
        screen.query_one("#budget", Input).value = "many"
        await ask(pilot, screen, "hello")
        assert screen.question is None


@pytest.mark.usefixtures("speaks")
@pytest.mark.parametrize(("prompt", "words"), [("die", "code 3"), ("long", "signal 9")])
async def test_a_child_that_dies_is_told_and_can_be_loaded_again(prompt: str, words: str) -> None:
    screen = InspectScreen("nano")
    async with Cockpit(screen).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.state == "● READY")
        await ask(pilot, screen, prompt)
        await until(pilot, lambda: screen.state == "✖ ENDED")
        told = str(screen.query_one("#state", Static).content)
        assert words in told
        await ask(pilot, screen, "anyone there?")
        await until(pilot, lambda: "Ask something" in said(screen, "reading"))
        assert ("out of [bold]memory[/]" in told) == (prompt == "die")
        await ask(pilot, screen, "hello")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.state == "● READY")


@pytest.mark.usefixtures("speaks")
async def test_another_model_is_loaded_and_escape_ends_the_process() -> None:
    screen = InspectScreen("nano")
    app = Cockpit(screen)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.state == "● READY")
        await pilot.press("ctrl+o")
        assert app.focused is screen.query_one("#model")
        screen.query_one("#model", Input).value = "other"
        await pilot.press("enter")
        assert screen.model == "other"
        await until(pilot, lambda: screen.state == "● READY")
        await pilot.press("ctrl+t")
        assert app.focused is screen.query_one("#prompt")
        process = screen._child._process if screen._child else None
        await pilot.press("escape")
        await until(pilot, lambda: process is not None and process.returncode is not None)
        assert not isinstance(app.screen, InspectScreen)


async def test_nano_answers_in_a_child_gate_on_beside_gate_off() -> None:
    child = child_module.ModelChild(child_module.command("nano"))
    await child.start()
    question = Question("How many bits of 7 are set?")
    try:
        async for line in child.lines():
            if line.get("kind") == "ready":
                assert line == {"kind": "ready", "layer": True, "gate": True}
                await child.send({"prompt": question.prompt, "budget": 12, "seed": 0})
            question.take(line)
            if question.is_over:
                break
    finally:
        await asyncio.wait_for(child.close(), 30)
    assert question.error is None
    assert question.cap == 12
    assert question.reading is not None
    assert len(question.reading["per_layer"]) == 6  # type: ignore[arg-type]
    assert set(question.sides) == {"on", "off"}
    for side in question.sides.values():
        assert 0 < side.think_tokens <= 12
        assert side.answer
        assert side.reply is not None
    assert question.sides["on"].reply["gate"] is not None  # type: ignore[index]
    assert question.sides["off"].reply["gate"] is None  # type: ignore[index]
    assert "L5" in str(reading_lines(question, 60))
    assert "/12" in str(side_lines(question, "on", 60))


async def test_a_model_that_is_not_there_says_why(tmp_path: Path) -> None:
    child = child_module.ModelChild(child_module.command(str(tmp_path / "none")))
    await child.start()
    assert [line async for line in child.lines()] == []
    words = await child.ended()
    assert "code 2" in words or "code 1" in words
    assert "Wanted a bundled model" in words
    assert json.dumps(words)
    await child.close()


@pytest.mark.usefixtures("speaks")
async def test_a_storm_of_resizes_in_the_middle_of_a_reply_is_survived() -> None:
    screen = InspectScreen("nano")
    async with Cockpit(screen).run_test(size=SIZE) as pilot:
        await until(pilot, lambda: screen.state == "● READY")
        await ask(pilot, screen, "slow")
        await until(pilot, lambda: "slow" in said(screen, "on"))
        for width in (40, 300, 10, 1, 81, 200, 140):
            await pilot.resize_terminal(width, max(width // 3, 1))
        await pilot.press("ctrl+x")
        await until(pilot, lambda: screen.question is not None and screen.question.is_over)
        assert "stopped" in said(screen, "on")
        assert "slow" in said(screen, "off")
