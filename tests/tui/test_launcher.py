"""The launcher: the form and its keys, and the ladder that stops what it started."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from metacog.config import RunConfig, load, parse
from metacog.config.compare import differences
from metacog.config.show import template
from metacog.telemetry.lock import holder
from metacog.tui.app import Cockpit, cockpit
from metacog.tui.form import KIND, Form
from metacog.tui.screens.choose import ChooseScreen, TextScreen
from metacog.tui.screens.home import HomeScreen
from metacog.tui.screens.launcher import LauncherScreen
from metacog.tui.screens.pick import PickScreen
from metacog.tui.stop import Ladder, was_asked
from tests.contracts.source import ROOT
from tests.tui.conftest import WriteRun

SIZE = (120, 40)


def test_the_form_holds_every_key_at_its_default() -> None:
    form = Form()
    assert form.config == RunConfig()
    keys = {field.key for field in form.fields}
    assert {"run.steps", "data.streaming", "feedback.layer", "adaptation.lr_multiplier"} <= keys
    assert all(field.help for field in form.fields)
    assert not any(form.is_changed(field) for field in form.fields)


def test_counts_have_no_upper_bound() -> None:
    form = Form()
    for text in ("1_000_000_000", "1e9"):
        form.put("run.steps", text)
        assert form.config is not None
        assert form.config.run.steps == 1_000_000_000


def test_all_mistakes_stand_at_their_keys_at_once() -> None:
    form = Form()
    form.put("run.steps", "many")
    form.put("data.max_malformed", "2")
    form.put("metacog.plans", "[a, a]")
    form.put("model.path", "[")
    assert set(form.errors) == {"run.steps", "data.max_malformed", "metacog.plans", "model.path"}
    assert form.config is None


def test_another_objective_brings_its_own_keys() -> None:
    form = Form()
    form.put("run.objective.rollouts", "3")
    form.put(KIND, "practice")
    assert form.config is not None
    assert form.config.run.objective.kind == "practice"
    assert "run.objective.group_size" in {field.key for field in form.fields}
    assert "run.objective.rollouts" not in form.edits


def test_resets_reach_as_far_as_they_say() -> None:
    form = Form()
    for key in ("run.steps", "run.seed", "length.max_len"):
        form.put(key, "7")
    form.reset("run.steps")
    assert set(form.edits) == {"run.seed", "length.max_len"}
    form.reset("run.")
    assert set(form.edits) == {"length.max_len"}
    form.reset()
    assert form.config == RunConfig()


def test_a_reset_of_a_key_leaves_one_alone_that_begins_like_it() -> None:
    form = Form()
    form.put("budget.reread", "every")
    form.put("budget.reread_every", "7")
    form.reset("budget.reread")
    assert form.edits == {"budget.reread_every": "7"}


def test_a_reset_of_the_objective_takes_its_own_keys_along() -> None:
    form = Form()
    form.put(KIND, "practice")
    form.put("run.objective.group_size", "4")
    form.reset(KIND)
    assert form.edits == {}
    assert form.config == RunConfig()


SECTION_5 = {
    "data.dataset": "glaiveai/reasoning-v1-20m",
    "data.path": "null",
    "data.streaming": "true",
    "data.split": "train",
    "data.sample_limit": "null",
    "model.path": "nano",
    "model.precision": "fp32",
    "model.grad_checkpoint": "false",
    "model.flash_attn": "false",
    "metacog.linked_all_layers": "true",
    "metacog.proj_dim": "64",
    "metacog.agg": "attn",
    "metacog.var_reg": "0.0001",
    "feedback.enabled": "true",
    "feedback.layer": "null",
    "budget.use_predicted_budget": "true",
    "adaptation.enabled": "true",
    "adaptation.mode": "ln_only",
    "adaptation.last_k": "2",
    "adaptation.unfreeze_all": "false",
    "adaptation.lr_multiplier": "0.05",
    "run.steps": "1000",
    "run.batch": "8",
    "run.grad_accum": "1",
    "run.save_interval": "1000",
    "run.eval_interval": "100",
    "run.seed": "0",
    "length.max_len": "2048",
    "length.auto_probe": "true",
    "length.probe_interval": "1000",
    "logging.sinks": "[jsonl, console]",
}
"""Every control of the requirements and its default."""


def test_every_control_that_is_required_is_there_with_its_default() -> None:
    form = Form()
    found = {field.key: form.value(field) for field in form.fields}
    assert {key: found.get(key) for key in SECTION_5} == SECTION_5


@pytest.mark.parametrize("recipe", [None, "imitate.yaml"])
def test_the_command_trains_what_the_form_says(recipe: str | None, tmp_path: Path) -> None:
    form = Form()
    if recipe:
        form.take(ROOT / "recipes" / recipe)
        form.reset("run.warmup")
    form.put("run.steps", "1e6")
    form.put("model.path", "'a b/c'")
    form.put(KIND, "practice")
    form.put("run.objective.group_size", "4")
    *first, last = form.command().replace("\\\n", "").splitlines()
    assert first == ([] if recipe else ["metacog config init run.yaml"])
    _, _, path, *rest = shlex.split(last)
    if not recipe:
        path = str(tmp_path / "run.yaml")
        Path(path).write_text(template(RunConfig()), encoding="utf-8")
    assert set(rest[::2]) == {"--set"}
    assert load(Path(path), rest[1::2]) == form.config


def test_a_fork_has_the_configuration_of_its_run_but_for_the_name() -> None:
    config = load(ROOT / "recipes" / "imitate.yaml")
    form = Form()
    form.take_run(config)
    assert form.config is not None
    assert form.config.run.name is None
    assert differences(config, form.config) == {"run.name": ("imitate", None)}


def test_a_fork_keeps_what_is_the_default_of_another_objective_only() -> None:
    config = parse({"run": {"objective": {"kind": "gate", "rollouts": 1}}}, source="test")
    form = Form()
    form.take_run(config)
    assert form.config == config


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_preset_is_the_recipe(recipe: Path) -> None:
    form = Form()
    form.take(recipe)
    assert form.errors == {}
    assert form.config == load(recipe)


def launcher(app: Cockpit) -> LauncherScreen:
    assert isinstance(app.screen, LauncherScreen)
    return app.screen


def go_to(screen: LauncherScreen, key: str) -> None:
    names = [str(option.prompt) for option in screen.query_one("#keys", OptionList).options]
    place = next(i for i, name in enumerate(names) if f" {key} " in f"{name} ")
    screen.query_one("#keys", OptionList).highlighted = place


@pytest.mark.asyncio
async def test_keys_change_reset_search_and_show(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(0.2)
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("n")
        await pilot.pause(0.2)
        screen = launcher(app)
        go_to(screen, "data.streaming")
        await pilot.press("enter")
        assert screen.form.edits == {"data.streaming": "false"}
        await pilot.press("r")
        assert screen.form.edits == {}
        go_to(screen, "run.steps")
        await pilot.press("enter")
        screen.query_one("#typed", Input).value = "1e9"
        await pilot.press("enter")
        assert screen.form.config is not None
        assert screen.form.config.run.steps == 10**9
        await pilot.press("y")
        assert isinstance(app.screen, TextScreen)
        assert "steps: 1000000000" in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        await pilot.press("c")
        assert isinstance(app.screen, TextScreen)
        assert "--set run.steps=1e9" in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        await pilot.press("R")
        assert screen.form.edits == {}
        screen.form.put("run.steps", "7")
        screen.form.put("model.path", "[")
        await pilot.press("ctrl+r")
        assert screen.form.config == RunConfig()
        await pilot.press("slash", *"probe", "enter")
        rows = [str(o.prompt) for o in screen.query_one("#keys", OptionList).options]
        assert any("length.auto_probe" in row for row in rows)
        assert not any("adaptation.mode" in row for row in rows)
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, HomeScreen)


@pytest.mark.asyncio
async def test_a_preset_fills_the_form_and_a_mistake_is_not_started(tmp_path: Path) -> None:
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        screen = LauncherScreen(tmp_path / "runs", ROOT / "recipes")
        await app.push_screen(screen)
        await pilot.press("p")
        assert isinstance(app.screen, ChooseScreen)
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert screen.form.edits
        screen.form.put("run.steps", "many")
        await pilot.press("s")
        assert isinstance(app.screen, TextScreen)
        assert "run.steps" in str(app.screen.query_one(Static).content)
        assert not (tmp_path / "runs").exists()


@pytest.mark.asyncio
async def test_a_file_is_picked_for_a_key_that_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a[b]" / "deep").mkdir(parents=True)
    (tmp_path / "a[b]" / "rows.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    app = cockpit(tmp_path / "runs")
    async with app.run_test(size=SIZE) as pilot:
        screen = LauncherScreen(tmp_path / "runs")
        await app.push_screen(screen)
        go_to(screen, "run.steps")
        await pilot.press("f")
        assert app.screen is screen
        go_to(screen, "data.path")
        for keys, wanted in (
            (("enter", "down", "enter"), "a[b]/rows.jsonl"),
            (("backspace", "space"), "a[b]"),
            (("enter", "left", "space"), "a[b]/deep"),
            (("escape",), "a[b]/deep"),
        ):
            await pilot.press("f")
            for key in keys:
                await pilot.pause(0.2)
                assert isinstance(app.screen, PickScreen)
                await pilot.press(key)
            await pilot.pause(0.1)
            assert app.screen is screen
            assert screen.form.config is not None
            assert screen.form.config.data.path == wanted


def test_no_process_is_nothing_to_stop(write_run: WriteRun) -> None:
    ladder = Ladder()
    ladder.step(holder(write_run().lock))
    assert ladder.said is not None
    assert "nothing to stop" in ladder.said


def test_the_ladder_asks_ends_and_kills() -> None:
    """A process that ignores SIGTERM is there until it is killed."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        ladder = Ladder()
        for word in ("Asked", "Told"):
            ladder.step(child.pid)
            assert ladder.said is not None
            assert ladder.said.startswith(word)
            assert child.poll() is None
        ladder.step(child.pid)
        assert child.wait(20) == -signal.SIGKILL


def test_a_process_that_was_asked_elsewhere_is_on_the_second_rung() -> None:
    polite = (
        "import signal, time\n"
        "def ask(*_): signal.signal(signal.SIGTERM, signal.SIG_DFL); print(2, flush=True)\n"
        "signal.signal(signal.SIGTERM, ask); print(1, flush=True)\n"
        "while True: time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", polite], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert not was_asked(child.pid)
        os.kill(child.pid, signal.SIGTERM)
        child.stdout.readline()
        assert was_asked(child.pid)
        ladder = Ladder()
        ladder.step(child.pid)
        assert ladder.said is not None
        assert ladder.said.startswith("Told")
        assert child.wait(20) == -signal.SIGTERM
