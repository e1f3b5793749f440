"""Interpreter, C library, cores and memory."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Final

from lineside import __version__
from lineside.doctor.check import Check, State
from lineside.engines.machine import cgroup_cores, cpu_flags, cpu_name, usable_cores

# What OpenVINO 2026's wheels for aarch64 ask for; an older glibc makes pip fall back in silence.
_OPENVINO_AARCH64_GLIBC: Final = (2, 35)
_INT8_FLAGS: Final = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}
# Both engines with a ViT-Tiny open at once take about 250 MB while measuring.
_LITTLE_MEMORY_BYTES: Final = 512 * 2**20
_CGROUP_MEMORY_MAX: Final = Path("/sys/fs/cgroup/memory.max")
_MEMORY_INFO: Final = Path("/proc/meminfo")
_CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))


def check_python() -> Check:
    """Interpreter and our own version."""
    found = (
        f"Python {platform.python_version()}, lineside {__version__}, "
        f"{platform.system()} {platform.machine()}"
    )
    return Check(topic="python", state=State.OK, found=found)


def check_glibc() -> Check:
    """The C library decides which wheels install."""
    name, version = platform.libc_ver()
    if name != "glibc":
        return Check(
            topic="glibc",
            state=State.WARNING,
            found=f"{name or 'no glibc'} {version}".strip(),
            remedy="the engines' wheels are made for glibc: use a Debian or Ubuntu based image",
        )
    numbers = tuple(int(digits) for digits in re.findall(r"\d+", version)[:2])
    if platform.machine() == "aarch64" and numbers < _OPENVINO_AARCH64_GLIBC:
        return Check(
            topic="glibc",
            state=State.WARNING,
            found=f"glibc {version}; OpenVINO 2026 on aarch64 asks for 2.35",
            remedy="use --engine onnxruntime, or a system from Ubuntu 22.04 on",
        )
    return Check(topic="glibc", state=State.OK, found=f"glibc {version}")


def check_cores() -> Check:
    """Cores, quota, and whether the CPU has instructions for int8."""
    flags = cpu_flags()
    quota = cgroup_cores()
    limited = "" if quota is None else f", container limit {quota:g}"
    found = (
        f"{cpu_name()}: {usable_cores()} usable of {os.cpu_count()} core(s){limited} "
        f"[{' '.join(flags) or 'no notable flags'}]"
    )
    if not _INT8_FLAGS.intersection(flags):
        return Check(
            topic="cpu",
            state=State.WARNING,
            found=f"{found}; no dot products for int8",
            remedy="int8 bundles work but gain little here: measure with lineside bench",
        )
    if quota is not None and quota < 1:
        return Check(
            topic="cpu",
            state=State.WARNING,
            found=found,
            remedy="less than one core stops inspections for milliseconds: give the container 1",
        )
    return Check(topic="cpu", state=State.OK, found=found)


def check_memory() -> Check:
    """What is free, and what a container may take."""
    available = _available_memory_bytes()
    limit = _memory_limit_bytes()
    if available is None:
        return Check(
            topic="memory",
            state=State.WARNING,
            found="cannot be read from /proc/meminfo",
            remedy="mount /proc into the container",
        )
    usable = available if limit is None else min(available, limit)
    found = f"{available / 2**20:,.0f} MiB available"
    if limit is not None:
        found += f", container limit {limit / 2**20:,.0f} MiB"
    if usable < _LITTLE_MEMORY_BYTES:
        return Check(
            topic="memory",
            state=State.WARNING,
            found=found,
            remedy="512 MiB are advised: name engine and threads, so that nothing is compared",
        )
    return Check(topic="memory", state=State.OK, found=found)


def check_container() -> Check:
    """Inside a container, devices and limits are what it was given."""
    mark = next((mark for mark in _CONTAINER_MARKS if mark.exists()), None)
    found = f"inside a container ({mark})" if mark else "none noticed"
    return Check(topic="container", state=State.OK, found=found)


def _available_memory_bytes() -> int | None:
    try:
        text = _MEMORY_INFO.read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _memory_limit_bytes() -> int | None:
    try:
        text = _CGROUP_MEMORY_MAX.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
