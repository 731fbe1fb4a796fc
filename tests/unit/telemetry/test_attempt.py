"""A process that was started in a run's directory, from its first moment to its last word."""

import subprocess
import sys
from pathlib import Path

from metacog.telemetry.attempt import Attempt, trainer_of
from metacog.telemetry.rundir import RunDir

WAITS = "import sys; sys.stdin.read(); sys.stderr.write('first\\nlast\\n\\n')"


def started(attempt: Attempt) -> subprocess.Popen[bytes]:
    with attempt.streams() as (out, err):
        child = subprocess.Popen(
            [sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=out, stderr=err
        )
        attempt.note(child.pid)
    return child


def test_a_process_lives_before_its_first_word_and_until_its_end(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert trainer_of(run) is None
    child = started(Attempt.next(run))
    assert trainer_of(run) == child.pid
    assert trainer_of(run) == child.pid, "a look takes nothing away"
    child.communicate()
    newest = Attempt.newest(run)
    assert newest is not None
    assert newest.pid() is None
    assert newest.last_words() == "last"
    written = newest.err.stat().st_mtime
    assert newest.last_words(after=written) == "last"
    assert newest.last_words(after=written + 1) == ""


def test_the_tenth_attempt_is_newer_than_the_ninth(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for _ in range(10):
        with Attempt.next(run).streams():
            pass
    newest = Attempt.newest(run)
    assert newest is not None
    assert newest.path.name == "attempt-10"
    assert newest.last_words() == ""


def test_a_number_that_was_not_written_is_nobody(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempt = Attempt.next(run)
    with attempt.streams():
        assert attempt.pid() is None
        (attempt.path / "pid").write_text("many", encoding="ascii")
        assert attempt.pid() is None
