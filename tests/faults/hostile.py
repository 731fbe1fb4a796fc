"""Model directories from strangers: a good one, and what an attacker makes of it."""

import json
import resource
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "model.safetensors"
MEGABYTE = 2**20


def copied(directory: Path, to: Path) -> Path:
    """Return a copy to spoil."""
    return shutil.copytree(directory, to / "hostile")


def rewrite_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    found = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in found.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def rewrite_tensors(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a file in place."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def raw_tensors(file: Path, header: object, data: bytes = b"", length: int | None = None) -> None:
    """Write a safetensors file whose header is given word by word."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    file.write_bytes(struct.pack("<Q", size) + text + data)


def canary_pickle(canary: Path) -> bytes:
    """A pickle that makes the file `canary` when it is read: `open(canary, "w")` by `__reduce__`."""
    return f"cbuiltins\nopen\n(S'{canary}'\nS'w'\ntR.".encode()


def peak_memory() -> int:
    """Most bytes of memory that this process held since the last call, or ever where none can say.

    Linux forgets the peak when it is told to: else what came before would hide what comes after.
    """
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not forget.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    forget.write_text("5")
    return int(lines["VmHWM"].split()[0]) * 1024


def held_memory() -> int:
    """Bytes of memory that this process holds now; the peak is counted from here."""
    peak_memory()
    return peak_memory()
