"""A model that is named by its hub id, read by the hub's own protocol from the loopback."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metacog.model.hub import is_hub_id
from tests.contracts.source import ROOT
from tests.integration.loopback import serving

NAME = "someone/small-model"
PROGRAM = """
import sys
from metacog import load
from metacog.errors import ModelError
try:
    model = load(sys.argv[1])
except ModelError as error:
    sys.exit(f"refused: {error}")
print(model.model.base.digest, *(reply.answer for reply in model.generate(["What is 3 + 4?"], budget=4)))
"""


def run(name: str, home: Path, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", **settings}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_named_model_is_read_once_and_without_code(tiny_directory: Path, tmp_path: Path) -> None:
    served, home = tmp_path / "served", tmp_path / "home"
    shutil.copytree(tiny_directory, served)
    (served / "modeling_small.py").write_text("raise SystemExit", encoding="utf-8")
    (served / "pytorch_model.bin").write_bytes(b"pickled")
    with serving(served, repository=f"models/{NAME}") as server:
        done = run(NAME, home, tmp_path, HF_ENDPOINT=server.url)
        asked_for_it = len(server.asked)
        again = run(NAME, home, tmp_path, HF_ENDPOINT=server.url)
        assert len(server.asked) == asked_for_it, "what is here is not asked for again"
        local = run(str(tiny_directory), home, tmp_path, HF_ENDPOINT=server.url)
        asked = {Path(path).name for _, path, _ in server.asked if "/resolve/" in path}
    assert done.returncode == local.returncode == 0, done.stderr + local.stderr
    assert done.stdout == local.stdout
    assert asked == {file.name for file in tiny_directory.iterdir()}
    offline = run(NAME, home, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.stdout == again.stdout == done.stdout, offline.stderr + again.stderr


def test_what_a_saved_run_names_is_not_fetched(tmp_path: Path) -> None:
    """A stranger's run may name what it likes."""
    layer = tmp_path / "a-run" / "final"
    layer.mkdir(parents=True)
    (layer / "metacog.json").write_text("{}", encoding="utf-8")
    model = {"model": {"path": NAME}}
    (tmp_path / "a-run" / "config.yaml").write_text(json.dumps(model), encoding="utf-8")
    with serving(tmp_path, repository=f"models/{NAME}") as server:
        done = run("a-run/final", tmp_path / "home", tmp_path, HF_ENDPOINT=server.url)
        assert server.asked == []
    assert "It is model.path in" in done.stderr


def test_a_hub_that_hangs_up_is_an_error_of_ours(tiny_directory: Path, tmp_path: Path) -> None:
    with serving(tiny_directory, repository=f"models/{NAME}", drops=99) as server:
        done = run(NAME, tmp_path, tmp_path, HF_ENDPOINT=server.url)
    assert f"refused: Wanted the model {NAME} from the hub" in done.stderr


def test_what_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    offline = run(NAME, tmp_path, tmp_path, HF_HUB_OFFLINE="1")
    assert f"refused: Wanted the model {NAME} from the hub" in offline.stderr
    assert "name that." in offline.stderr


@pytest.mark.parametrize(
    ("name", "is_hub"),
    [
        ("Qwen/Qwen3-0.6B", True),
        ("model/Tina", False),
        ("runs/layer", False),
        ("./some/where", False),
        ("here/small", False),
        ("nano", False),
        ("a/b/c", False),
        ("nano/final", False),
        ("bases/tiny", False),
        ("mine/final", False),
        ("mine/checkpoint-1000", False),
        ("Runs/x", False),
        ("someone/a--b", False),
        ("someone/x.git", False),
        ("a\u00e9/b", False),
    ],
)
def test_what_looks_local_is_never_looked_up(
    name: str, is_hub: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub_id(name) is is_hub
