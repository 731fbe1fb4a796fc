"""The cockpit in a real terminal: from its first frame to a run made again from its configuration."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from metacog.config import load
from metacog.telemetry.lock import holder
from metacog.telemetry.rundir import RunDir
from metacog.tui.runs import list_runs
from tests.contracts.source import ROOT
from tests.faults.processes import told, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]
_PATIENCE = 400.0
_FIRST_FRAME = 1.5
_METACOG = f"{sys.executable} -m metacog"
_STEPS = 100_000


@dataclass
class Terminal:
    """A tmux server of its own with one window."""

    socket: Path
    place: Path

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def open(self, command: str = _METACOG, *, size: tuple[int, int] = (120, 40)) -> None:
        """Run a command in the window, which stays when it ends; a server that ends keeps its socket."""
        self.socket = self.socket.with_suffix(f".{time.monotonic_ns()}")
        width, height = map(str, size)
        paths = f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"
        options = ["-d", "-x", width, "-y", height, "-c", str(self.place), "-e", paths]
        self.tmux("new-session", *options, f"{command}; echo ENDED; sleep 1000")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tmux("send-keys", key)
            time.sleep(0.3)

    def type(self, words: str) -> None:
        self.tmux("send-keys", "-l", words)
        time.sleep(0.5)

    def until(self, *words: str, seconds: float = _PATIENCE) -> None:
        """Wait for one of these words on the screen."""
        end = time.monotonic() + seconds
        while not any(word in (shown := self.screen()) for word in words):
            assert time.monotonic() < end, f"{words} did not come:\n{shown}"
            time.sleep(0.1)

    def put(self, key: str, value: str) -> None:
        """Change a key of the launcher by searching for it."""
        self.press("/")
        self.type(key)
        self.press("Enter", "Enter")
        self.press("C-a", "C-k")
        self.type(value)
        self.press("Enter", "Escape")

    def close(self) -> None:
        subprocess.run(["tmux", "-S", str(self.socket), "kill-server"], check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    place = tmp_path / "here"
    (place / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "imitate.yaml", place / "recipes")
    found = Terminal(tmp_path / "tmux", place)
    yield found
    found.close()
    for listed in list_runs(place / "runs"):
        if listed.pid is not None:
            os.kill(listed.pid, 9)


def test_the_first_frame_comes_in_time(terminal: Terminal) -> None:
    taken = []
    for _ in range(3):
        begun = time.monotonic()
        terminal.open()
        terminal.until("M E T A C O G")
        taken.append(time.monotonic() - begun)
        terminal.close()
    assert min(taken) < _FIRST_FRAME, taken


def started(terminal: Terminal) -> RunDir:
    """Start a run from the form, and see its puzzles and a checkpoint."""
    terminal.open()
    terminal.until("No run yet")
    terminal.press("n")
    terminal.until("0 changed")
    terminal.press("p", "Enter")
    terminal.until("model.path")
    terminal.put("run.steps", str(_STEPS))
    terminal.put("run.save_interval", "10")
    terminal.put("run.eval_interval", "10")
    terminal.put("run.batch", "4")
    terminal.put("run.name", "mine")
    assert "● valid" in terminal.screen()
    terminal.press("s")
    terminal.until("● one step", "✖")
    assert "All is right" in terminal.screen()
    terminal.press("Enter")
    run = RunDir(terminal.place / "runs" / "mine")
    wait_until(lambda: bool(run.checkpoints()), seconds=_PATIENCE)
    terminal.until("LIVE")
    terminal.press("5", "Enter")
    terminal.until("right", "wrong")
    return run


def test_a_run_from_the_form_to_the_same_run_again(terminal: Terminal) -> None:
    run = started(terminal)
    pid = holder(run.lock)
    assert pid is not None

    terminal.press("q")  # detach
    terminal.until("ENDED")
    assert holder(run.lock) == pid, "leaving the cockpit leaves the run"
    terminal.close()
    terminal.open(f"{_METACOG} attach runs/mine")
    terminal.until("LIVE")
    terminal.press("x")
    terminal.until("STOPPED")
    assert run.stopped.is_dir()
    terminal.press("q")
    terminal.until("ENDED")
    terminal.close()

    terminal.open()
    terminal.until("■ stopped")
    resumed(run, terminal)
    terminal.press("n")
    terminal.until("0 changed")
    terminal.press("q")
    terminal.close()

    made_again(run, terminal)


def resumed(run: RunDir, terminal: Terminal) -> None:
    """Go on with the stopped run from the list, see it learn on, and stop it from a shell."""
    before = max(step for step, *_ in told(run.path))
    terminal.press("r")
    terminal.until("LIVE")
    wait_until(lambda: max(step for step, *_ in told(run.path)) > before, seconds=_PATIENCE)
    assert stopped_from_a_shell(run).startswith("Asked to stop")
    terminal.until("STOPPED")
    terminal.press("Escape")
    terminal.until("■ stopped")


def stopped_from_a_shell(run: RunDir) -> str:
    stopping = [sys.executable, "-m", "metacog", "stop", str(run.path)]
    return subprocess.run(stopping, capture_output=True, text=True, check=True).stdout


def made_again(run: RunDir, terminal: Terminal) -> None:
    """Train from the saved configuration, and compare what both runs told."""
    config = load(run.config)
    assert (config.run.steps, config.run.batch) == (_STEPS, 4)
    terminal.open(f"{_METACOG} train runs/mine/config.yaml --run-dir runs/again")
    again = RunDir(terminal.place / "runs" / "again")
    wait_until(lambda: bool(again.checkpoints()), seconds=_PATIENCE)
    assert stopped_from_a_shell(again).startswith("Asked to stop")
    terminal.until("ENDED")
    assert load(again.config) == config
    both = [[t for t in told(r.path) if t[0] <= 10] for r in (run, again)]
    assert both[0]
    assert both[0] == both[1]
