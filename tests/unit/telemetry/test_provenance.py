import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from metacog.telemetry.provenance import collect, git_state, installed_versions


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    file = tmp_path / "module.py"
    file.write_text("a = 1\n")
    git(tmp_path, "add", "module.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    return file


def test_the_commit_of_a_tracked_file_is_known(tracked: Path) -> None:
    sha = git(tracked.parent, "rev-parse", "HEAD")
    assert git_state(tracked) == (sha, False)
    tracked.write_text("a = 2\n")
    assert git_state(tracked) == (sha, True)


def test_a_file_that_is_only_installed_below_a_work_tree_has_no_commit(tracked: Path) -> None:
    untracked = tracked.parent / "installed.py"
    untracked.write_text("")
    assert git_state(untracked) == (None, None)


def test_outside_a_work_tree_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path / "a.py") == (None, None)


def test_versions_are_those_installed_and_never_made_up() -> None:
    found = installed_versions(["torch", "no-such-package-anywhere"])
    assert found == {"torch": version("torch")}


def test_provenance_is_plain_json() -> None:
    provenance = collect(seed=7, config_digest="abc", argv=["metacog", "train", "r.yaml"])
    record = json.loads(json.dumps(provenance.as_json()))
    assert record["argv"] == ["metacog", "train", "r.yaml"]
    assert (record["seed"], record["config_digest"]) == (7, "abc")
    assert record["versions"]["torch"] == version("torch")
    assert record["started"].endswith("+00:00")
