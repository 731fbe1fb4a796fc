"""Nothing in the repository knows the machine it was written on, and nothing in it is stray."""

import os
import re
import tomllib

from tests.contracts.source import ROOT, repository_files

# Put together here, so that this file does not contain them.
MACHINE_PATHS = tuple(
    f"/{name}/".encode() for name in ("wo" + "rk", "ho" + "me", "ro" + "ot", "Us" + "ers")
)
MAX_BYTES = 12_000_000


def machine_paths(content: bytes) -> list[bytes]:
    return [path for path in MACHINE_PATHS if re.search(rb"(?<![\w.})])" + path, content)]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pinned}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        str(path.relative_to(ROOT)): machine_paths(path.read_bytes())
        for path in repository_files()
        if path.suffix != ".safetensors"
    }
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_a_machine_path_is_seen() -> None:
    path = MACHINE_PATHS[1]
    assert machine_paths(b'open("' + path + b'someone/x")') == [path]
    assert machine_paths(b"docs" + path) == []


def test_no_file_is_too_big_for_the_repository() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in repository_files()}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


def test_no_file_is_named_like_an_unquoted_redirect() -> None:
    assert [path.name for path in repository_files() if path.name[0] in "=<>&"] == []


def test_constraints_pin_exactly_and_without_a_build() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [e for e in entries if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", e)] == []
    assert not [name for name in pins() if name.startswith("nvidia") or "cuda" in name]


def test_everything_that_make_installs_is_pinned() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *extras["eval"],
        *extras["tui"],
        *extras["dev"],
        "setuptools",
    ]
    names = {normal(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in wanted}
    assert names - set(pins()) == set()


def test_continuous_integration_can_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8").splitlines()
