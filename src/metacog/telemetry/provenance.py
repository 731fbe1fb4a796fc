"""Where a run comes from: command, code, versions, machine, seed."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "metacog",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "reasoning-gym",
    "math-verify",
)
"""Packages whose version can change what a run computes."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What must be known to do a run again."""

    argv: tuple[str, ...]
    started: str
    """Time of the start, UTC, ISO 8601."""

    seed: int
    config_digest: str
    git_sha: str | None
    """Commit of the source tree, or None outside one."""

    git_dirty: bool | None
    """Whether tracked files differed from that commit, or None outside a source tree."""

    python: str
    platform: str
    num_cores: int
    versions: dict[str, str]
    """Installed version by package; one that is not installed is left out."""

    def as_json(self) -> dict[str, object]:
        """Return the record as JSON values."""
        return asdict(self)


def collect(*, seed: int, config_digest: str, argv: Sequence[str] | None = None) -> Provenance:
    """Return where the present process comes from."""
    sha, dirty = git_state(Path(__file__))
    return Provenance(
        argv=tuple(sys.argv if argv is None else argv),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        config_digest=config_digest,
        git_sha=sha,
        git_dirty=dirty,
        python=platform.python_version(),
        platform=platform.platform(),
        num_cores=os.cpu_count() or 1,
        versions=installed_versions(_PACKAGES),
    )


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the version of each package that is installed, without importing it."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the work tree that tracks `file`, and whether it was changed since.

    A file that is only installed below some other work tree is not tracked by it: (None, None).
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None, None
    sha = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return sha, None if changes is None else changes != ""


def _git(directory: Path, *arguments: str) -> str | None:
    """Return what a git command prints, or None if git or the work tree is missing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
