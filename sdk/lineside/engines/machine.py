"""The machine as an engine sees it: cores this process may use, and what the CPU can do."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Final

_CPU_INFO: Final = Path("/proc/cpuinfo")
_CGROUP_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")

# What decides how fast int8 and bf16 are: x86's and Arm's names as Linux lists them.
NOTABLE_CPU_FLAGS: Final = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)


def cgroup_cores() -> float | None:
    """The container's CPU quota in cores; ``None`` where there is none (cgroup v2 ``cpu.max``)."""
    try:
        quota, period = _CGROUP_CPU_MAX.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def usable_cores() -> int:
    """Cores this process may keep busy: affinity and container quota considered; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_cores()
    limit = math.inf if quota is None else math.ceil(quota)
    return max(1, int(min(cores or 1, limit)))


def cpu_name() -> str:
    """The CPU's name, e.g. ``AMD EPYC 9B14``; on Arm, which has none, its parts by number."""
    fields = _cpu_fields()
    name = fields.get("model name", "")
    if name:
        return name
    parts = (fields.get("CPU implementer"), fields.get("CPU part"))
    return f"{platform.machine()} {'/'.join(part for part in parts if part)}".strip()


def cpu_flags() -> tuple[str, ...]:
    """Those of `NOTABLE_CPU_FLAGS` that this CPU has."""
    fields = _cpu_fields()
    found = set(fields.get("flags", fields.get("Features", "")).split())
    return tuple(flag for flag in NOTABLE_CPU_FLAGS if flag in found)


def _cpu_fields() -> dict[str, str]:
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
