"""What the cockpit shows of the checks before a run."""

from pathlib import Path

import pytest
from textual.widgets import Static

from metacog.config import RunConfig, load
from metacog.telemetry.boot import CHECKS, Check, Piece, decode, encode
from metacog.tui import boot as checking
from metacog.tui.app import Cockpit
from metacog.tui.boot import Boot
from metacog.tui.screens.boot import BootScreen
from tests.contracts.source import ROOT


def test_a_check_is_read_as_it_was_written() -> None:
    check = Check("batch", True, "two\nlines", ((Piece("think", False, "a\x1b[31m"),),))
    assert decode(encode(check)) == check
    for line in ("{}", "7", '{"name": "x", "is_right": true, "says": "", "rows": [1]}'):
        with pytest.raises(ValueError, match="wanted a check"):
            decode(line)


@pytest.mark.timeout(300)
def test_what_is_wrong_is_told_and_ends_the_checks(tmp_path: Path) -> None:
    config = load(ROOT / "recipes" / "imitate.yaml", [f"model.path={tmp_path / 'none'}"])
    found = list(Boot(config, tmp_path).checks())
    assert [(check.name, check.is_right) for check in found] == [
        ("configuration", True),
        ("model", False),
    ]
    assert str(tmp_path / "none") in found[-1].says


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = "import sys; sys.stderr.write('out of memory'); sys.exit(9)"
    monkeypatch.setattr(checking, "_COMMAND", (checking.sys.executable, "-c", dies))
    (check,) = Boot(RunConfig(), tmp_path).checks()
    assert (check.name, check.is_right) == ("configuration", False)
    assert "ended with 9: out of memory" in check.says


@pytest.mark.asyncio
async def test_a_wrong_check_starts_nothing_and_text_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [encode(Check(name, True, "fine")) for name in CHECKS[:5]]
    row = ((Piece("think", True, "[bold]x\x1b[31m"), Piece("answer", False, "y")),)
    lines += [
        encode(Check("batch", True, "one row", row)),
        encode(Check("parameters", False, "NO")),
    ]
    (tmp_path / "said").write_text("\n".join(lines), encoding="utf-8")
    says = f"import pathlib; print(pathlib.Path({str(tmp_path / 'said')!r}).read_text())"
    monkeypatch.setattr(checking, "_COMMAND", (checking.sys.executable, "-c", f"{says}; exit(1)"))

    screen = BootScreen(RunConfig(), tmp_path)
    async with Cockpit(screen).run_test(size=(120, 40)) as pilot:
        for _ in range(100):
            await pilot.pause(0.1)
            if screen.wrong is not None:
                break
        await pilot.pause(0.1)
        shown = str(screen.query_one("#checks", Static).content)
        assert "✖ parameters" in shown
        assert "[bold]x␛[31m" in shown
        assert "· one step" in shown
        assert "NO Nothing was started." in str(screen.query_one("#verdict", Static).content)
        await pilot.press("enter")
        assert pilot.app.screen is screen
