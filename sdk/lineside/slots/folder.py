"""A store in a folder of a Linux disk.

```
record.0  record.1    two copies of the record, written in place: a full disk cannot stop a revert
slot.a    slot.b      a bundle each, or the beginning of one
lock      station.lock
```

A slot that is filled anew becomes a new file: whoever has mapped the old one keeps its bytes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Final

from lineside.durable import make_folder, sync_folder
from lineside.errors import StorageError
from lineside.slots.codec import MAX_RECORD_BYTES
from lineside.slots.locks import FolderLock, open_file, storage_error
from lineside.slots.storage import Area, SlotName, Storage
from lineside.slots.store import Store

# Also what is written again, at most, after a power cut.
_PAGE_BYTES: Final = 1024 * 1024
_RECORDS: Final = (Area.RECORD_0, Area.RECORD_1)
_SLOTS: Final = (Area.SLOT_A, Area.SLOT_B)
_OUR_NAMES: Final = frozenset({*(area.value for area in Area), "lock", "station.lock"})


class FolderStorage(Storage):
    """Four files in a folder. Thread-safe where changes are made within `exclusive`."""

    def __init__(self, path: str | Path, make: bool = False) -> None:
        """
        Args:
            path: the folder.
            make: make it where it is not there.

        Raises:
            StorageError: not there, cannot be made, no folder, or full of other things.
        """
        self.path = Path(path)
        if make:
            _make_durably(self.path)
        _check_folder(self.path)
        self._lock = FolderLock(self.path / "lock")
        # Kept open up to the sync, which else might not hear of a fault of the disk.
        self._unsynced: dict[Area, FileIO] = {}
        self._folder_changed = False
        # What the disk refused to make durable. The kernel drops such pages, and a later fsync
        # succeeds without them: until it is erased nothing there may be believed.
        self._lost: set[Area] = set()
        # How the files looked when this object last had them; no list: they may be unsynced.
        self._left: list[object] = []

    def __str__(self) -> str:
        return str(self.path)

    def path_of(self, slot: SlotName) -> Path:
        """The file of a slot's bundle."""
        return self._path(Area.of(slot))

    @property
    def page_bytes(self) -> int:
        """1 MiB: a disk erases nothing; it is how much is written between syncs."""
        return _PAGE_BYTES

    def capacity_bytes(self, area: Area) -> int:
        """Of a slot: what is free on the disk, with what the slot holds now."""
        if area in _RECORDS:
            return MAX_RECORD_BYTES
        try:
            disk = os.statvfs(self.path)
            held = self._path(area).lstat().st_blocks * 512 if self._is_there(area) else 0
        except OSError as error:
            raise storage_error(self.path, error) from error
        return disk.f_bavail * disk.f_frsize + held

    def read(self, area: Area, offset: int, size: int) -> bytes:
        """Fewer bytes at the file's end; none where there is no file."""
        self._check_not_lost(area)
        path = self._path(area)
        if not self._is_there(area):
            return b""
        descriptor = open_file(path, os.O_RDONLY)
        try:
            return _read_fully(descriptor, offset, size)
        except OSError as error:
            raise storage_error(path, error) from error
        finally:
            os.close(descriptor)

    def write(self, area: Area, offset: int, data: bytes) -> None:
        """Onto the end of a slot's file, or over a record."""
        self._check_not_lost(area)
        descriptor = self._open_for_writing(area)
        try:
            if area not in _RECORDS and os.fstat(descriptor).st_size != offset:
                raise StorageError(
                    f"{self._path(area)}: does not end at byte {offset}: another process has begun "
                    "to fill the slot anew: begin again"
                )
            _write_fully(descriptor, offset, data)
        except OSError as error:
            raise storage_error(self._path(area), error) from error

    def erase(self, area: Area, offset: int, size: int) -> None:
        """Cut a slot's file off; from its beginning: put an empty one in its place."""
        try:
            if area in _RECORDS:
                # Over what is there, and never shorter: a full disk has no room to give back.
                descriptor = self._open_for_writing(area)
                _write_fully(descriptor, 0, b"\xff" * MAX_RECORD_BYTES)
                self._lost.discard(area)
            elif offset == 0:
                self._replace(area)
            else:
                self._cut(area, offset, size)
        except OSError as error:
            raise storage_error(self._path(area), error) from error

    def sync(self) -> None:
        """Files and their names."""
        while self._unsynced:
            area, file = self._unsynced.popitem()
            with file:
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    self._lose(area)
                    raise storage_error(self._path(area), error) from error
        if self._folder_changed:
            try:
                sync_folder(self.path)
            except OSError as error:
                raise storage_error(self.path, error) from error
            self._folder_changed = False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits up to 2 s for other processes; what they left unsynced is synced first."""
        with self._lock.held() as is_first:
            if not is_first:
                yield
                return
            if self._look() != self._left:
                self._sync_what_others_wrote()
            self._left = []
            yield
            self._left = self._look()

    def _look(self) -> list[object]:
        """Other content, another file or another time of change tell of another process."""
        try:
            records = [self.read(area, 0, MAX_RECORD_BYTES) for area in _RECORDS]
            slots = [self._path(area).lstat() for area in _SLOTS if self._is_there(area)]
        except (OSError, StorageError):
            return [object()]  # like nothing else
        return [*records, *((slot.st_ino, slot.st_size, slot.st_mtime_ns) for slot in slots)]

    def _sync_what_others_wrote(self) -> None:
        """A process that was killed leaves in memory what it wrote, to be read and relied upon.

        A power cut takes it; and no copy of the record may be touched before the other is durable.
        """
        try:
            for area in Area:
                path = self._path(area)
                if self._is_there(area) and stat.S_ISREG(path.lstat().st_mode):
                    with FileIO(open_file(path, os.O_RDONLY)) as file:
                        os.fsync(file.fileno())
            sync_folder(self.path)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def _path(self, area: Area) -> Path:
        return self.path / area.value

    def _is_there(self, area: Area) -> bool:
        return os.path.lexists(self._path(area))

    def _open_for_writing(self, area: Area) -> int:
        """A descriptor that is closed by the next `sync`."""
        if area not in self._unsynced:
            self._folder_changed |= not self._is_there(area)
            descriptor = open_file(self._path(area), os.O_RDWR | os.O_CREAT)
            self._unsynced[area] = FileIO(descriptor, "r+")
        return self._unsynced[area].fileno()

    def _replace(self, area: Area) -> None:
        if area in self._unsynced:
            self._unsynced.pop(area).close()
        self._path(area).unlink(missing_ok=True)
        self._folder_changed = True
        self._lost.discard(area)
        self._open_for_writing(area)

    def _cut(self, area: Area, offset: int, size: int) -> None:
        descriptor = self._open_for_writing(area)
        end = os.fstat(descriptor).st_size
        if offset + size < end:
            _write_fully(descriptor, offset, b"\xff" * size)
        elif offset < end:
            os.ftruncate(descriptor, offset)

    def _lose(self, area: Area) -> None:
        self._lost.add(area)
        if area not in _RECORDS:
            # So that no other process takes for whole what may never have reached the disk.
            with contextlib.suppress(OSError):
                self._path(area).unlink()
                self._lost.discard(area)

    def _check_not_lost(self, area: Area) -> None:
        if area in self._lost:
            raise StorageError(
                f"{self._path(area)}: the disk failed to keep what was written: replace the disk"
            )


def open_store(path: str | Path, *, make: bool = False) -> Store:
    """Open the store in a folder, and write a copy of its record anew that is damaged or behind.

    Args:
        path: the folder.
        make: make it where it is not there.

    Raises:
        StorageError: not there, no store, damaged, of a newer version, or unreadable.
    """
    return Store(FolderStorage(path, make))


def _make_durably(path: Path) -> None:
    """The folder and those above it, such that no power cut takes the store with one of them."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    make_folder(path)
    try:
        for folder in missing:
            sync_folder(folder.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def _check_folder(path: Path) -> None:
    """That files may be put there: a store, or an empty folder to become one."""
    try:
        names = set(os.listdir(path))  # noqa: PTH208  (names only)
    except NotADirectoryError:
        raise StorageError(f"{path}: is a file; a store is a folder") from None
    except FileNotFoundError:
        raise StorageError(
            f"{path}: no such folder: name the station's, or have the first install make it "
            "(lineside slots install --make)"
        ) from None
    except OSError as error:
        raise storage_error(path, error) from error
    others = {name for name in names - _OUR_NAMES - {"lost+found"} if not name.startswith(".")}
    if others and not names & {area.value for area in _RECORDS}:
        raise StorageError(
            f"{path}: is no store, it holds {min(others)!r}: name an empty folder, or a new one"
        )


def _read_fully(descriptor: int, offset: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


def _write_fully(descriptor: int, offset: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        offset += count
        rest = rest[count:]
