"""How much memory this program holds."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")


def resident_bytes(statm: Path = _STATM) -> int | None:
    """Physical memory in use now; ``None`` where the system does not say.

    Args:
        statm: Linux' own file of it (proc(5)).
    """
    try:
        pages = int(statm.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    """Physical memory in use now, MiB; where the system does not say, the most it ever was."""
    now_bytes = resident_bytes()
    if now_bytes is not None:
        return now_bytes / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
