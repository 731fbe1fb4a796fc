"""`metacog doctor`: what this machine and this installation can do, told without loading a model."""

import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from metacog.errors import EXIT_FAILED

NANO = Path(__file__).parent.parent / "assets" / "nano"
_OLDEST_PYTHON = (3, 11)
_LEAST_FREE_DISK = 1 << 30
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "safetensors")
_OFFLINE_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True, kw_only=True)
class NanoReport:
    """State of the bundled base."""

    present: bool
    hash_matches: bool | None
    """Whether every file named in HASH has its sha256; None without HASH."""

    padding_side: str | None
    """Padding side of its tokenizer, as its files say."""

    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the doctor looks at."""

    metacog: str
    python: str
    platform: str
    packages: dict[str, str | None]
    """Installed version by package, or None."""

    num_cores: int
    memory_bytes: int
    free_disk_bytes: int
    offline: dict[str, bool]
    nano: NanoReport
    problems: tuple[str, ...]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what is installed and what is wrong; exit with 1 if something is."""
    report = examine(NANO)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "ok": not report.problems}, indent=2))
    else:
        typer.echo(_as_text(report), nl=False)
    if report.problems:
        raise typer.Exit(EXIT_FAILED)


def examine(nano: Path) -> Report:
    """Return the state of the installation, with the bundled base looked for at `nano`."""
    from metacog import __version__
    from metacog.telemetry.provenance import installed_versions

    found = installed_versions(_PACKAGES)
    packages = {package: found.get(package) for package in _PACKAGES}
    base = examine_nano(nano)
    free_disk = shutil.disk_usage(Path.cwd()).free
    problems = [
        f"{package} is not installed. Install metacog again: pip install metacog."
        for package, installed in packages.items()
        if installed is None
    ]
    if sys.version_info < _OLDEST_PYTHON:
        problems.append(f"Python 3.11 or newer is wanted, this is {platform.python_version()}.")
    if free_disk < _LEAST_FREE_DISK:
        problems.append("Less than 1 GiB of disk is free here. Make room before training.")
    return Report(
        metacog=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        num_cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_disk_bytes=free_disk,
        offline={flag: _is_set(flag) for flag in _OFFLINE_FLAGS},
        nano=base,
        problems=(*problems, *base.problems),
    )


def examine_nano(directory: Path) -> NanoReport:
    """Return whether the bundled base is there, whole, and left-padded."""
    if not (directory / "config.json").is_file():
        missing = "The bundled base nano is missing from the installation. Install metacog again."
        return NanoReport(present=False, hash_matches=None, padding_side=None, problems=(missing,))
    damaged = _damaged_files(directory)
    side = _padding_side(directory)
    problems = []
    if damaged:
        problems.append(
            f"The bundled base nano differs from its HASH in {', '.join(damaged)}. "
            "Install metacog again."
        )
    if side != "left":
        problems.append(
            f"The tokenizer of nano wanted padding_side left, got {side}. Install metacog again."
        )
    return NanoReport(
        present=True,
        hash_matches=None if damaged is None else not damaged,
        padding_side=side,
        problems=tuple(problems),
    )


def _damaged_files(directory: Path) -> tuple[str, ...] | None:
    """Return the files that differ from HASH (lines as sha256sum writes them); None without it."""
    from metacog.telemetry.files import sha256_file

    record = directory / "HASH"
    if not record.is_file():
        return None
    damaged = []
    for line in record.read_text(encoding="utf-8").splitlines():
        wanted, _, name = line.partition(" ")
        path = directory / name.strip().removeprefix("*")
        if not path.is_file() or sha256_file(path) != wanted:
            damaged.append(path.name)
    return tuple(damaged)


def _padding_side(directory: Path) -> str | None:
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return None
    side = json.loads(path.read_text(encoding="utf-8")).get("padding_side")
    return None if side is None else str(side)


def _is_set(flag: str) -> bool:
    return os.environ.get(flag, "").upper() in {"1", "ON", "YES", "TRUE"}


def _as_text(report: Report) -> str:
    gib = 1 << 30
    nano = "missing"
    if report.nano.present:
        match report.nano.hash_matches:
            case True:
                nano = "present, hash as recorded"
            case False:
                nano = "present, DAMAGED"
            case None:
                nano = "present, no hash recorded"
    offline = [flag for flag, is_on in report.offline.items() if is_on]
    rows = {
        "metacog": report.metacog,
        "python": f"{report.python} on {report.platform}",
        **{package: installed or "missing" for package, installed in report.packages.items()},
        "cores": str(report.num_cores),
        "memory": f"{report.memory_bytes / gib:.1f} GiB",
        "free disk": f"{report.free_disk_bytes / gib:.1f} GiB",
        "nano": nano,
        "padding side": report.nano.padding_side or "unknown",
        "offline": ", ".join(offline) or "no flag set",
    }
    lines = [f"{name:<13} {value}" for name, value in rows.items()]
    lines += [f"PROBLEM       {problem}" for problem in report.problems]
    return "\n".join(lines) + "\n"
