"""A bounded folder of files of our own: old ones make room for new ones, strangers' stay."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from lineside.durable import make_folder, write_durably
from lineside.errors import StorageError

_MIB: Final = 2**20
_TORN: Final = re.compile(r"\.(?P<name>.+)\.\d+\.part")


class Ring:
    """Holds files whose names begin with their time, so that name order is age.

    Where files are of several kinds, the oldest of the kind that most are of goes first: a storm
    of black frames cannot push out what people wait for. `make_room` and `store` are for one
    thread, `free_room` for any.

    Args:
        folder: made where it is not there; nobody else writes there.
        ours: what our names match whole; a group ``kind`` tells kinds apart.
        section: of the settings, for messages.
        most: so many files at most.
        max_mib: and so much together; ``None``: no such bound.
        keep_free_mib: nothing is written while less is free on that disk.
    """

    def __init__(
        self,
        folder: Path,
        ours: re.Pattern[str],
        *,
        section: str,
        most: int,
        max_mib: int | None = None,
        keep_free_mib: int,
    ) -> None:
        self._folder = folder
        self._ours = ours
        self._section = section
        self._most = most
        self._max_mib = max_mib
        self._keep_free_mib = keep_free_mib
        self._lock = threading.Lock()
        # By kind, names with their sizes, oldest first; None until the folder was looked through.
        self._held: dict[str, OrderedDict[str, int]] | None = None
        self._device = -1

    def make_room(self, size_bytes: int = 0, *, kind: str = "") -> None:
        """Before writing, so that the folder never holds more than it may.

        Args:
            size_bytes: of the file to come; 0 while that is not known.
            kind: of the file to come: it makes room among its own where these are as many.

        Raises:
            StorageError: no room is left to us on that disk, or the folder cannot be used.
        """
        make_folder(self._folder)
        with self._lock:
            try:
                self._shrink(size_bytes, kind)
                free_bytes = shutil.disk_usage(self._folder).free
            except OSError as error:
                self._held = None
                raise StorageError(f"{self._folder}: {error.strerror}") from error
        if free_bytes - size_bytes < self._keep_free_mib * _MIB:
            raise StorageError(
                f"{self._folder}: less than {self._section}.keep_free_mib = {self._keep_free_mib} "
                "are free: the room is left to verdicts"
            )

    def store(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all; after `make_room`.

        Raises:
            StorageError: it cannot be written.
        """
        found = self._ours.fullmatch(name)
        assert found is not None, f"{name} is none of our names: it would never be deleted"
        try:
            write_durably(self._folder / name, [data])
        except StorageError:
            # Whatever happened to the folder: look through it before the next one.
            with self._lock:
                self._held = None
            raise
        with self._lock:
            if self._held is not None:
                self._held.setdefault(_kind(found), OrderedDict())[name] = len(data)

    def free_room(self, wanted_bytes: int, *, beside: Path | None = None) -> int:
        """Delete files, the oldest first, until so much is freed or none is left.

        For whoever needs the disk more. It never waits for the thread that writes here.

        Args:
            wanted_bytes: how much is needed.
            beside: a path on the disk that needs it; with our folder on another one nothing is
                deleted.

        Returns:
            Bytes that were freed, as the files' sizes say; 0 where the other thread is at work
            here: ask again.
        """
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            if beside is not None and self._device_now() != beside.stat().st_dev:
                return 0
            held = self._look()
            freed_bytes = 0
            while freed_bytes < wanted_bytes and any(held.values()):
                freed_bytes += self._drop(held)
        except OSError:
            self._held = None
            return 0
        finally:
            self._lock.release()
        return freed_bytes

    def taken(self, name: str) -> bool:
        """Whether a file of that name is there."""
        return os.path.lexists(self._folder / name)

    def _shrink(self, size_bytes: int, kind: str) -> None:
        held = self._look()
        max_bytes = None if self._max_mib is None else self._max_mib * _MIB
        if max_bytes is not None and size_bytes > max_bytes:
            raise StorageError(
                f"{self._folder}: one file of {size_bytes:,} bytes is more than "
                f"{self._section}.max_mib = {self._max_mib} allows: raise it"
            )
        count = sum(map(len, held.values()))
        total_bytes = sum(sum(files.values()) for files in held.values()) + size_bytes
        while count >= self._most or (max_bytes is not None and total_bytes > max_bytes):
            total_bytes -= self._drop(held, kind)
            count -= 1

    def _drop(self, held: dict[str, OrderedDict[str, int]], coming: str | None = None) -> int:
        """Delete the oldest file of the commonest kind, what comes counted in; its size."""
        counts = {kind: len(held[kind]) + (kind == coming) for kind in held if held[kind]}
        most = max(counts.values())
        kinds = [held[kind] for kind, count in counts.items() if count == most]
        oldest = min(kinds, key=lambda files: next(iter(files)))
        name = next(iter(oldest))
        (self._folder / name).unlink(missing_ok=True)
        return oldest.pop(name)

    def _device_now(self) -> int:
        if self._device < 0:
            self._device = self._folder.stat().st_dev
        return self._device

    def _look(self) -> dict[str, OrderedDict[str, int]]:
        """What lies there: looked up once, and again after a fault."""
        if self._held is None:
            held: dict[str, OrderedDict[str, int]] = {}
            with os.scandir(self._folder) as entries:
                found = sorted((entry.name, entry) for entry in entries)
            for name, entry in found:
                torn = _TORN.fullmatch(name)
                if torn is not None and self._ours.fullmatch(torn["name"]):
                    (self._folder / name).unlink(missing_ok=True)  # left by a power cut
                elif (ours := self._ours.fullmatch(name)) is not None:
                    size_bytes = entry.stat(follow_symlinks=False).st_size
                    held.setdefault(_kind(ours), OrderedDict())[name] = size_bytes
            self._device = self._folder.stat().st_dev
            self._held = held
        return self._held


def _kind(found: re.Match[str]) -> str:
    return found.groupdict().get("kind", "")
