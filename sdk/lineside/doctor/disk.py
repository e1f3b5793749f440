"""Room and speed of the disk under a folder: the outbox waits for it at every group of verdicts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from lineside.doctor.check import Check, State

_WRITES: Final = 15
_BLOCK: Final = bytes(4096)
_LITTLE_ROOM_BYTES: Final = 2**30
# At 10 parts/s and groups of one, more would fall behind.
_SLOW_FLUSH_S: Final = 0.1


def check_disk(topic: str, folder: Path, *, needed: bool) -> Check:
    """Free room and the time of one flushed write.

    Args:
        topic: what the folder is for.
        folder: measured in a file that is removed again.
        needed: the station cannot run without writing there.
    """
    absent = State.MISSING if needed else State.WARNING
    try:
        free_bytes = shutil.disk_usage(folder).free
        flush_s = _median_flush_s(folder)
    except OSError as error:
        return Check(
            topic=topic,
            state=absent,
            found=f"{folder}: cannot be written: {error.strerror}",
            remedy=f"mkdir -p {folder} && chown {os.geteuid()} {folder}",
        )
    found = f"{folder}: {free_bytes / 2**30:.1f} GiB free, flushed write {flush_s * 1e3:.2f} ms"
    if free_bytes < _LITTLE_ROOM_BYTES:
        return Check(topic=topic, state=State.WARNING, found=found, remedy="make room: 1 GiB")
    if flush_s > _SLOW_FLUSH_S:
        remedy = "put the outbox on a faster disk: verdicts wait for it"
        return Check(topic=topic, state=State.WARNING, found=found, remedy=remedy)
    return Check(topic=topic, state=State.OK, found=found)


def _median_flush_s(folder: Path) -> float:
    times_s = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_WRITES):
            file.write(_BLOCK)
            file.flush()
            started = perf_counter()
            os.fsync(file.fileno())
            times_s.append(perf_counter() - started)
    return median(times_s)
