"""The files of a folder: which are complete, which were inspected before, and reading one.

A file is read when it is complete, and that can be known in two ways only: it was renamed into
place (then ``settle_ms = 0`` and it is taken at the next look), or it has not changed for
``settle_ms``. Looks are taken every ``poll_ms``; inotify would say nothing on network shares.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from lineside.errors import FrameError, InputDataError
from lineside.frame import MAX_FILE_BYTES, SUFFIXES, Frame, decode_frame
from lineside.framekey import FrameKey
from lineside.plainfile import is_folder, read_with_status
from lineside.sources.capture import Capture, Memory
from lineside.wholetext import whole_text

_HALF_RANGE: Final = 2**63


class FolderSettings(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="folder",
):
    """Section ``[source]`` with ``kind = "folder"``.

    Attributes:
        path: the folder; its sub-folders are not looked into.
        watch: wait for new files; else the source ends with the last one.
        part_id: ``stem`` (the name without suffix) or a regular expression with one group, searched
            in the file's name; where it does not match, the part is unknown (``""``).
        settle_ms: a file is complete when unchanged for so long; 0 when files are renamed in.
        poll_ms: between two looks.
    """

    path: Path
    watch: bool = False
    part_id: str = "stem"
    settle_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 500
    poll_ms: Annotated[int, msgspec.Meta(ge=10, le=1000)] = 200

    @property
    def place(self) -> str:
        """The folder, for people."""
        return str(self.path)

    def __post_init__(self) -> None:
        if self.part_id == "stem":
            return
        try:
            groups = re.compile(self.part_id).groups
        except re.error as error:
            raise ValueError(f"part_id {self.part_id!r}: {error}") from error
        if groups != 1:
            raise ValueError(f"part_id {self.part_id!r} has {groups} groups, it needs exactly one")


@dataclass(frozen=True, kw_only=True)
class Look:
    """A file as it was seen: another one under its name differs."""

    size_bytes: int
    mtime_ns: int


class FolderFiles:
    """See the module. Memory grows with the number of files that lie in the folder, no further.

    Raises:
        InputDataError: at opening: the folder is not there.
    """

    def __init__(self, settings: FolderSettings, *, memory: Memory) -> None:
        if not is_folder(settings.path):
            raise InputDataError(
                f"source.path = {settings.path}: there is no such folder that this user may enter"
            )
        self.fault = ""
        self.passed_over = 0
        # A name that is not UTF-8 stands as escapes: the memory keeps text.
        folder = os.fsencode(settings.path.resolve())
        self.identity = f"folder:{folder.decode('utf-8', 'backslashreplace')}"
        self._settings = settings
        self._memory = memory
        self._done: dict[str, Look] = {}
        self._unsettled: dict[str, tuple[Look, float]] = {}

    def is_gone(self, name: bytes) -> bool:
        """Whether the folder no longer has that file; an unreachable folder has them all."""
        folder = self._settings.path
        try:
            return folder.is_dir() and not (folder / os.fsdecode(name)).exists()
        except OSError:
            return False  # a share that answers with a fault says nothing about its files

    def look(self) -> dict[str, Look]:
        """What lies there now; empty where a watched folder cannot be read (`fault`).

        Raises:
            InputDataError: the folder cannot be read, and is not watched.
        """
        looks: dict[str, Look] = {}
        try:
            with os.scandir(self._settings.path) as entries:
                for entry in entries:
                    look = _look_at(entry)
                    if look is not None:
                        looks[entry.name] = look
        except OSError as error:
            self.fault = f"{self._settings.path}: {error.strerror}"
            if not self._settings.watch:
                raise InputDataError(self.fault) from error
            return {}
        self.fault = ""
        self._forget_absent(looks)
        return looks

    def _forget_absent(self, looks: dict[str, Look]) -> None:
        for kept in (self._done, self._unsettled):
            for name in [name for name in kept if name not in looks]:
                del kept[name]

    def complete(self, looks: dict[str, Look], *, but: Container[str] = ()) -> list[str]:
        """Those of them that are whole and were not inspected before, in name order.

        Args:
            looks: what `look` gave.
            but: names that need not be looked at.

        Raises:
            StorageError: the memory cannot be read.
        """
        names = sorted(name for name in looks if name not in but)
        return [name for name in names if self._is_complete(name, looks[name])]

    def _is_complete(self, name: str, look: Look) -> bool:
        if self._was_inspected(name, look):
            self._unsettled.pop(name, None)
            return False
        if self._settings.settle_ms == 0:
            return True
        # By our own clock between two looks: a share's time stamps may come from another clock.
        now_s = time.monotonic()
        before = self._unsettled.get(name)
        if before is None or before[0] != look:
            self._unsettled[name] = (look, now_s)
            return False
        return now_s - before[1] >= self._settings.settle_ms / 1000

    def _was_inspected(self, name: str, look: Look) -> bool:
        if name not in self._done and name not in self._unsettled:
            key = self._memory.recall(self.identity, os.fsencode(name))
            if key is not None:
                self._done[name] = Look(size_bytes=key.size_bytes, mtime_ns=key.mtime_ns)
                self.passed_over += self._done[name] == look
        return self._done.get(name) == look

    def take(self, name: str, look: Look) -> Capture | None:
        """Read a file; ``None``: it was changed or taken away since it was looked at."""
        taken_unix_ns, taken_ns = time.time_ns(), time.monotonic_ns()
        found = self._read(name, look)
        if found is None:
            return None
        key = self.put_away(name, look)
        return Capture(
            part_id=self.part_of(name),
            taken_unix_ns=taken_unix_ns,
            taken_ns=taken_ns,
            read_us=(time.monotonic_ns() - taken_ns) / 1000,
            frame=None if isinstance(found, FrameError) else found,
            fault=found if isinstance(found, FrameError) else None,
            key=key,
        )

    def put_away(self, name: str, look: Look) -> FrameKey:
        """Look at this file no more, as long as it stays as it is; how it is known again."""
        self._done[name] = look
        self._unsettled.pop(name, None)
        return self._key_of(name, look)

    @property
    def unsettled(self) -> bool:
        """Whether a file may still be written to."""
        return bool(self._unsettled)

    def _read(self, name: str, look: Look) -> Frame | FrameError | None:
        """The frame, or why there is none; ``None`` where its turn has not come after all."""
        path = self._settings.path / name
        try:
            data = _read_unchanged(path, look)
            if data is None:
                self._unsettled[name] = (look, time.monotonic())
                return None
            return decode_frame(data, source=str(path), part_id=self.part_of(name))
        except FileNotFoundError:
            return None  # taken away again: by the next look it is not there
        except OSError as error:
            return FrameError(f"{path}: {error.strerror}", reason="frame_missing")
        except FrameError as fault:
            return fault

    def _key_of(self, name: str, look: Look) -> FrameKey:
        return FrameKey(
            source=self.identity,
            name=os.fsencode(name),
            size_bytes=look.size_bytes,
            mtime_ns=look.mtime_ns,
        )

    def part_of(self, name: str) -> str:
        """The part that a file's name tells of, ``""`` where it tells of none."""
        if self._settings.part_id == "stem":
            return whole_text(Path(name).stem)
        found = re.search(self._settings.part_id, name)
        return whole_text(found.group(1) or "") if found else ""


def _look_at(entry: os.DirEntry[str]) -> Look | None:
    name = entry.name
    if name.startswith(".") or not name.lower().endswith(SUFFIXES):
        return None
    try:
        if not entry.is_file():
            return None
        return look_of(entry.stat())
    except FileNotFoundError:
        return None  # renamed away between listing and looking
    except OSError:
        if not entry.is_symlink():
            raise
        # A link that leads nowhere is one part's fault, not the folder's: reading it says which.
        return look_of(entry.stat(follow_symlinks=False))


def look_of(status: os.stat_result) -> Look:
    """Size and time of a file."""
    # File systems keep times beyond the 64 bits of nanoseconds that a memory keeps (the year
    # 2262); a camera whose clock is mad must not stop the line.
    wrapped_ns = (status.st_mtime_ns + _HALF_RANGE) % (2 * _HALF_RANGE) - _HALF_RANGE
    return Look(size_bytes=status.st_size, mtime_ns=wrapped_ns)


def _read_unchanged(path: Path, look: Look) -> bytes | None:
    data, status = read_with_status(path, limit_bytes=MAX_FILE_BYTES)
    return data if look_of(status) == look and len(data) == look.size_bytes else None
