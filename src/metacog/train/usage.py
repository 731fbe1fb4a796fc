"""How much memory this process holds."""

import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/statm")
_MIB = 1 << 20


def memory_figures() -> dict[str, float]:
    """Return `perf/memory`, and `perf/gpu_memory` on a GPU, in MiB; what cannot be known is absent.

    Memory is what the process holds now, or where the system does not say, the most it has held.
    """
    found: dict[str, float] = {}
    if _STATUS.is_file():
        pages = int(_STATUS.read_text(encoding="ascii").split()[1])
        found["perf/memory"] = pages * resource.getpagesize() / _MIB
    else:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["perf/memory"] = most / (_MIB if sys.platform == "darwin" else 1024)
    if torch.cuda.is_available():
        found["perf/gpu_memory"] = torch.cuda.max_memory_allocated() / _MIB
    return found
