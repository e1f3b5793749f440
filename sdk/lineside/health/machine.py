"""What the machine says of itself: temperatures, memory, disk, clock. Linux' own files, no tools.

Whatever is not there, or is no number, is ``None`` or left out: a container sees little of it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from lineside.kernelclock import read_kernel_clock
from lineside.resident import resident_bytes

_LIMIT_BYTES: Final = 65_536
# A hall of sensors would only cost time; the hottest of these reach the wire.
_SENSORS_LIMIT: Final = 32
# Sensors that are not connected answer -273, 0x7fffffff and the like.
_CREDIBLE_C: Final = (-60.0, 200.0)


class MachineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one moment.

    Attributes:
        temperatures_c: by sensor, the hottest first, degrees Celsius.
        resident_bytes: this process's memory.
        available_bytes: what the machine could still give away; of a container with a limit, what
            the limit leaves, where that is less.
        free_bytes: on the watched disk, for this user.
        clock_synced: whether something keeps the clock.
    """

    temperatures_c: dict[str, float] = {}
    resident_bytes: int | None = None
    available_bytes: int | None = None
    free_bytes: int | None = None
    clock_synced: bool | None = None


def look_at_machine(disk: Path, *, root: Path = Path("/")) -> MachineFigures:
    """Read everything once; a disk or sensor that hangs holds the caller.

    Args:
        disk: a file or folder on the disk to watch; where it is not there, the folder above.
        root: where ``proc`` and ``sys`` lie.
    """
    return MachineFigures(
        temperatures_c=read_temperatures(root / "sys/class"),
        resident_bytes=resident_bytes(root / "proc/self/statm"),
        available_bytes=_available_bytes(root),
        free_bytes=_free_bytes(disk),
        clock_synced=_clock_synced(),
    )


def read_temperatures(classes: Path) -> dict[str, float]:
    """By sensor, the hottest first; two of one name are told apart by a number.

    Args:
        classes: ``/sys/class``, with ``thermal`` and ``hwmon``.
    """
    found: list[tuple[float, str]] = []
    for name_file, value_file in _sensor_files(classes):
        celsius = _celsius(value_file)
        if celsius is not None:
            found.append((celsius, _text(name_file) or value_file.parent.name))
    names: dict[str, float] = {}
    for celsius, name in sorted(found, key=lambda one: -one[0]):
        number, free = 1, name
        while free in names:
            number += 1
            free = f"{name}{number}"
        names[free] = celsius
    return names


def _sensor_files(classes: Path) -> Iterator[tuple[Path, Path]]:
    zones = sorted(_listed(classes / "thermal", r"thermal_zone\d+"))
    yield from ((zone / "type", zone / "temp") for zone in zones[:_SENSORS_LIMIT])
    if zones:
        return  # hwmon shows the same sensors again
    for chip in sorted(_listed(classes / "hwmon", r"hwmon\d+"))[:_SENSORS_LIMIT]:
        inputs = sorted(_listed(chip, r"temp\d+_input"))[:_SENSORS_LIMIT]
        yield from ((chip / "name", value) for value in inputs)


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if re.fullmatch(pattern, name)]  # noqa: PTH208
    except OSError:
        return []


def _celsius(file: Path) -> float | None:
    milli = _number(_text(file))
    if milli is None:
        return None
    celsius = milli / 1000
    low, high = _CREDIBLE_C
    return celsius if low <= celsius <= high else None


def _available_bytes(root: Path) -> int | None:
    match = re.search(r"^MemAvailable:\s*(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    left = math.inf if match is None else int(match[1]) * 1024
    group = root / "sys/fs/cgroup"  # the container's own, version 2
    limit, used = _number(_text(group / "memory.max")), _number(_text(group / "memory.current"))
    if limit is not None and used is not None:
        left = min(left, max(limit - used, 0))
    return None if math.isinf(left) else int(left)


def _free_bytes(disk: Path) -> int | None:
    for place in (disk, disk.parent):
        try:
            found = os.statvfs(place)
        except (OSError, ValueError):
            continue
        return found.f_bavail * found.f_frsize
    return None


def _clock_synced() -> bool | None:
    try:
        return read_kernel_clock().synchronised
    except OSError:
        return None


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_LIMIT_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
