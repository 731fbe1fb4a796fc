"""Files that are either there in full or not at all: temporary name, fsync, rename."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from metacog.errors import RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, replacing an older one, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in full or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a mapping as indented JSON, in full or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@contextmanager
def new_directory(path: Path, *, make_way: Callable[[], None] | None = None) -> Iterator[Path]:
    """Give a temporary directory to fill, which becomes `path` when the block ends well.

    Nothing is left behind when the block raises.

    Args:
        path: What it becomes.
        make_way: Moves away what is there; called once all that is new has reached the disk.

    Raises:
        RunError: If `path` exists already or nothing can be made there.
    """
    if make_way is None:
        _refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise RunError(
            f"Wanted to create {path.absolute()}, but {error}. Choose another place."
        ) from error
    try:
        yield temporary
        _sync_tree(temporary)
        temporary.chmod(0o755)
        if make_way is not None:
            make_way()
        _refuse_existing(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_directory(path.parent)


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise RunError(
            f"Wanted to create {path.absolute()}, but it exists and nothing is overwritten. "
            "Choose another name or move it away."
        )


def _sync_tree(directory: Path) -> None:
    """Hand every file and directory below to the disk."""
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            _sync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
