"""F9: what is installed is what is pinned, new enough, and nothing that was once compromised.

pip checks hashes of archives only where all have one, and torch's archive differs between platforms and
indexes under one version: so versions are pinned, and what an archive left on disk is held against its
own record.
"""

import base64
import hashlib
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.contracts.source import ROOT
from tests.contracts.test_hygiene import normal, pins

AT_LEAST = {"transformers": "5.3", "torch": "2.6", "jinja2": "3.1.6"}
"""Below these a file can run code: CVE-2026-4372, CVE-2025-32434, CVE-2025-27516."""
REFUSED = {"lightning", "pytorch-lightning", "lightning-fabric"}
RECORDED = ("safetensors", "jinja2", "peft", "accelerate", "trl")


def project() -> list[str]:
    """Return what `make` asks for."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found = tomllib.load(file)["project"]
    extras = found["optional-dependencies"]
    return [*found["dependencies"], *extras["eval"], *extras["dev"]]


def closure() -> dict[str, Distribution]:
    """Return every distribution that those requirements bring, by name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in project()]
    while waiting:
        wanted = waiting.pop()
        name = normal(wanted.name)
        if name in found and not wanted.extras:
            continue
        found[name] = distribution(wanted.name)
        waiting += needed_by(found[name], wanted.extras)
    return found


def needed_by(there: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in there.requires or ():
        requirement = Requirement(text)
        asked = [{"extra": extra} for extra in (*extras, "")]
        if requirement.marker is None or any(requirement.marker.evaluate(e) for e in asked):
            yield Requirement(f"{requirement.name}{requirement.specifier}")


@pytest.fixture(scope="module")
def installed() -> dict[str, Distribution]:
    return closure()


def test_what_is_installed_is_what_is_pinned(installed: dict[str, Distribution]) -> None:
    versions = {name: there.version.partition("+")[0] for name, there in installed.items()}
    unpinned = {
        n for n in versions if n not in pins() and not n.startswith("nvidia") and n != "triton"
    }
    assert unpinned == set()
    assert {n: v for n, v in versions.items() if n in pins() and pins()[n] != v} == {}


def test_nothing_is_too_old_and_nothing_is_refused(installed: dict[str, Distribution]) -> None:
    for name, least in AT_LEAST.items():
        assert Version(pins()[name]) >= Version(least)
        assert Version(installed[name].version) >= Version(least)
    assert REFUSED & (pins().keys() | installed.keys()) == set()


@pytest.mark.parametrize("name", RECORDED)
def test_files_of_a_package_are_those_that_its_archive_held(name: str) -> None:
    checked = 0
    for file in distribution(name).files or ():
        if file.hash is None or file.suffix == ".pyc":
            continue
        assert file.hash.mode == "sha256"
        digest = hashlib.sha256(file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, str(file)
        checked += 1
    assert checked > 3
