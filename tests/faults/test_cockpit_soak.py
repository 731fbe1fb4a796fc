"""The cockpit's cost with 100,000 events fed in: below 300 MB and one core, screens alive."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metacog.config import RunConfig, dump
from metacog.telemetry.rundir import RunDir
from tests.tui.conftest import lines
from tests.tui.whole import whole_run

NUM_EVENTS = 100_000
# Opens the run, waits until all is read, scrubs, and tells time, memory and whether torch came in.
LOOK = """
import asyncio, json, sys, time
from pathlib import Path
from metacog.telemetry.rundir import RunDir
from metacog.tui.app import watching

async def main():
    app = watching(RunDir(Path(sys.argv[1])))
    async with app.run_test(size=(160, 48)) as pilot:
        dashboard = app.screen
        while dashboard.follower.state.num_events < int(sys.argv[2]):
            await pilot.pause(0.2)
        began, cpu = time.monotonic(), time.process_time()
        await pilot.pause(10)
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        scrubs = []
        for step in (7_000, 150_000, 300_000):
            began = time.process_time()
            dashboard.action_scrub_to(step)
            while dashboard.shown.replays != step:
                await pilot.pause(0.02)
            scrubs.append(time.process_time() - began)
        # getrusage would count the process that this one was forked from, too.
        status = dict(l.split(":", 1) for l in Path("/proc/self/status").read_text().splitlines())
        peak = int(status["VmHWM"].split()[0]) / 1024
        told = {"busy": busy, "scrubs": scrubs, "mb": peak, "torch": "torch" in sys.modules}
        Path(sys.argv[3]).write_text(json.dumps(told))

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_100_000_events_cost_less_than_300_mb_and_one_core(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    run.path.mkdir()
    run.config.write_text(dump(RunConfig()), encoding="utf-8")
    once = list(whole_run())
    with run.events.open("w", encoding="utf-8") as file:
        written = 0
        while written < NUM_EVENTS:
            shift = 400 * (written // len(once))
            moved = [e.__class__(**{**vars(e), "step": e.step + shift}) for e in once]
            file.write(lines(moved))
            written += len(moved)
    told = tmp_path / "told.json"
    subprocess.run(
        [sys.executable, "-c", LOOK, str(run.path), str(written), str(told)],
        check=True,
        timeout=1800,
    )
    found = json.loads(told.read_text(encoding="utf-8"))
    assert not found["torch"]
    assert found["mb"] < 300
    assert found["busy"] < 1.0
    assert max(found["scrubs"]) < 3.0
