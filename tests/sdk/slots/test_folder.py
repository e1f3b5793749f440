"""A store in a real folder: its files, who may see them, and what the disk may do to it."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from slot_files import active_data, install, install_confirmed, send, slot_file

from lineside.errors import RefusedError, StorageError
from lineside.slots import Area, FolderStorage, Incoming, SlotName, Store, open_store

A, B = SlotName.A, SlotName.B
MIB = 1024 * 1024
FIRST, SECOND, THIRD = (slot_file(number, size_bytes=5000) for number in range(3))
LARGE = slot_file(9, size_bytes=3 * MIB + 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(folder, make=True)


def path_of(store: Store, slot: SlotName) -> Path:
    storage = store.storage
    assert isinstance(storage, FolderStorage)
    return storage.path_of(slot)


def test_the_whole_road_and_what_lies_there(store: Store, folder: Path) -> None:
    assert install(store, FIRST) is A
    assert install(store, SECOND) is B
    store.start_trial()
    assert store.count_start() == 1
    store.confirm()
    assert path_of(store, B).read_bytes() == SECOND.data
    assert store.revert("command") is A
    assert active_data(store) == FIRST.data
    again = open_store(folder)
    assert again.record == store.record
    assert again.damage == ""
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["lock", "record.0", "record.1", "slot.a", "slot.b"]


def test_the_group_may_look_and_nobody_else(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        install(open_store(folder, make=True), FIRST)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {0o640}
    assert len(modes) == 4


def test_who_has_mapped_a_bundle_keeps_it_while_its_slot_is_filled_anew(store: Store) -> None:
    install_confirmed(store, FIRST)
    install_confirmed(store, SECOND)
    with path_of(store, A).open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    inode = path_of(store, A).stat().st_ino
    with path_of(store, A).open("rb") as held:
        install(store, THIRD)
        assert path_of(store, A).stat().st_ino != inode
        assert path_of(store, A).read_bytes() == THIRD.data
        assert (mapping[:], held.read()) == (FIRST.data, FIRST.data)
    mapping.close()


def test_an_install_goes_on_where_it_was_synced(folder: Path) -> None:
    send(open_store(folder, make=True), LARGE, chunk_bytes=100_000, end=2 * MIB + 300_000)
    store = open_store(folder)
    assert store.begin(LARGE.incoming) == 2 * MIB
    assert path_of(store, A).stat().st_size == 2 * MIB
    send(store, LARGE, chunk_bytes=MIB + 1)
    store.finish(LARGE.card)
    assert active_data(store) == LARGE.data


def test_what_the_disk_has_not_kept_of_the_last_page_is_written_again(folder: Path) -> None:
    """After a power cut a file may be as long as it was, with zeros where nothing was synced."""
    send(open_store(folder, make=True), LARGE, chunk_bytes=100_000)
    with (folder / "slot.a").open("r+b") as file:
        file.seek(3 * MIB)
        file.write(bytes(100))
    store = open_store(folder)
    assert store.begin(LARGE.incoming) == 3 * MIB
    send(store, LARGE)
    store.finish(LARGE.card)


def test_another_process_that_begins_the_same_file_is_noticed(folder: Path, store: Store) -> None:
    send(store, LARGE, chunk_bytes=MIB // 2, end=MIB + MIB // 2)
    assert open_store(folder).begin(LARGE.incoming) == MIB
    with pytest.raises(StorageError, match="begin again"):
        store.write(store.written, LARGE.data[store.written : store.written + 10])
    with pytest.raises(RefusedError, match="begin first"):
        _ = store.written
    send(store, LARGE, chunk_bytes=MIB)
    store.finish(LARGE.card)


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"missing: no such folder: .*lineside slots install"):
        open_store(tmp_path / "missing")
    file = tmp_path / "file"
    file.write_text("x")
    for make in (False, True):
        with pytest.raises(StorageError, match=r"file"):
            open_store(file, make=make)
    with pytest.raises(StorageError, match="cannot be made"):
        open_store(file / "below", make=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for make in (False, True):
        with pytest.raises(StorageError, match=r"is no store, it holds 'thesis.tex': name an"):
            open_store(tmp_path, make=make)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_foreign_files_in_a_store_are_left_alone(store: Store, folder: Path) -> None:
    install(store, FIRST)
    (folder / "notes.txt").write_text("x")
    install_confirmed(open_store(folder), SECOND)
    assert (folder / "notes.txt").read_text() == "x"


def test_a_disk_of_its_own_may_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".hidden").touch()
    install(open_store(tmp_path), FIRST)
    assert open_store(tmp_path).record.active is not None


@pytest.mark.parametrize("name", ["record.0", "record.1"])
@pytest.mark.parametrize("damage", ["gone", "empty", "short", "flipped", "folder", "link", "pipe"])
def test_one_copy_of_the_record_is_enough(
    store: Store, folder: Path, name: str, damage: str
) -> None:
    install(store, FIRST)
    path = folder / name
    data = path.read_bytes()
    if damage in ("empty", "short", "flipped"):
        path.write_bytes({"empty": b"", "short": data[:100], "flipped": b"?" + data[1:]}[damage])
    else:
        path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to(folder / "slot.a")
    elif damage == "pipe":
        os.mkfifo(path)
    again = open_store(folder)
    assert active_data(again) == FIRST.data
    if damage in ("folder", "link", "pipe"):
        assert name in again.damage
        with pytest.raises(StorageError, match=name):
            install_confirmed(again, SECOND)
        assert active_data(again) == FIRST.data
    else:
        assert again.damage == ""
        assert path.read_bytes() == data
        install_confirmed(again, SECOND)


def test_a_store_without_its_records_is_not_an_empty_one(store: Store, folder: Path) -> None:
    install(store, FIRST)
    (folder / "record.0").unlink()
    (folder / "record.1").unlink()
    with pytest.raises(StorageError, match=r"is missing or blank.*put both back"):
        open_store(folder)
    with pytest.raises(StorageError, match="put both back"):
        _ = store.record
    (folder / "slot.a").unlink()
    assert open_store(folder).record.active is None


def test_a_store_that_vanishes_while_it_is_open_is_not_an_empty_one(
    store: Store, folder: Path
) -> None:
    install(store, FIRST)
    again = open_store(folder)
    shutil.rmtree(folder)
    for one in (store, again):
        with pytest.raises(StorageError):
            _ = one.record
        with pytest.raises(StorageError):
            one.begin(SECOND.incoming)


def test_folders_above_are_made_too(tmp_path: Path) -> None:
    install(open_store(tmp_path / "a" / "b" / "store", make=True), FIRST)
    assert open_store(tmp_path / "a" / "b" / "store").record.active is A


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_slot_that_is_no_plain_file_is_put_aside_or_refused(
    store: Store, folder: Path, tmp_path: Path, kind: str
) -> None:
    install(store, FIRST)
    precious = tmp_path / "precious"
    precious.write_text("x")
    path = folder / "slot.b"
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    if kind == "folder":
        with pytest.raises(StorageError, match=r"slot\.b"):
            install(store, SECOND)
        assert active_data(store) == FIRST.data
    else:
        install_confirmed(store, SECOND)
        assert active_data(store) == SECOND.data
    assert precious.read_text() == "x"


def test_a_bundle_that_is_gone_reads_as_nothing(store: Store, folder: Path) -> None:
    install(store, FIRST)
    (folder / "slot.a").unlink()
    assert active_data(store) == b""


def test_a_file_that_the_disk_has_no_room_for_is_refused_before_anything_is_given_up(
    store: Store,
) -> None:
    install_confirmed(store, FIRST)
    install_confirmed(store, SECOND)
    with pytest.raises(StorageError, match="do not fit, there is room for"):
        store.begin(Incoming(sha256=bytes(32), size_bytes=2**60))
    assert store.revert("command") is A


@contextmanager
def no_file_beyond(size_bytes: int) -> Iterator[None]:
    """A disk that takes no more, as the kernel tells it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_install_that_the_disk_stops_goes_on_once_there_is_room(
    store: Store, folder: Path
) -> None:
    install(store, FIRST)
    with no_file_beyond(2 * MIB + 5000):
        with pytest.raises(StorageError, match=r"slot\.b: File too large"):
            send(store, LARGE, chunk_bytes=100_000)
        with pytest.raises(RefusedError, match="begin first"):
            store.write(0, b"x")
        assert active_data(store) == FIRST.data
        assert active_data(open_store(folder)) == FIRST.data
    send(store, LARGE, chunk_bytes=100_000)
    assert store.finish(LARGE.card) is B


class FailingCalls:
    """One call to the system fails, as a disk makes it; the store's code is what it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.fail_at = -1
        self.fails_on = False
        self.error = errno.EIO
        for name in ("pwrite", "ftruncate"):
            monkeypatch.setattr(os, name, self._watch(getattr(os, name)))
        # Not waited for: what is looked at here is what its failure leads to.
        monkeypatch.setattr(os, "fsync", self._watch(lambda _descriptor: None))

    def _watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            self.calls += 1
            beyond = self.calls - 1 - self.fail_at
            if beyond == 0 or (self.fails_on and beyond > 0):
                raise OSError(self.error, os.strerror(self.error))
            return call(*arguments)

        return watched


def test_whatever_call_the_disk_refuses_the_store_stays_sound(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = FailingCalls(monkeypatch)
    errors = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
    for number, error in zip(range(60), itertools.cycle(errors), strict=False):
        calls.error = error
        where = folder / str(number)
        store = open_store(where, make=True)
        install(store, FIRST)
        calls.calls, calls.fail_at = 0, number
        told = 0
        for step in (
            lambda store=store: install(store, SECOND),
            store.start_trial,
            store.confirm,
            lambda store=store: store.revert("command"),
        ):
            before = store.record
            try:
                step()
            except StorageError as found:
                told += 1
                assert os.strerror(error) in str(found)
                assert store.record.active is before.active
                step()
        assert told <= 1
        assert active_data(store) == FIRST.data
        assert active_data(open_store(where)) == FIRST.data
        if calls.calls <= number:
            break
    else:
        raise AssertionError("there are more calls than were tried")
    assert number > 30


def test_a_disk_that_fails_for_good_leaves_what_judges(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be put back either; what was told not to have happened has not, here."""
    calls = FailingCalls(monkeypatch)
    for number in range(8):
        calls.fail_at, calls.fails_on = -1, False
        store = open_store(folder / str(number), make=True)
        install(store, FIRST)
        install(store, SECOND)
        calls.calls, calls.fail_at, calls.fails_on = 0, number, True
        try:
            store.start_trial()
        except StorageError:
            assert store.record.active is A
            assert active_data(store) == FIRST.data
        else:
            assert number >= 3
            assert store.record.active is B
        calls.fail_at, calls.fails_on = -1, False
        assert active_data(open_store(folder / str(number))) in (FIRST.data, SECOND.data)


def test_what_an_fsync_lost_is_not_taken_for_written(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops the pages of a failed fsync, and the next one succeeds without them."""
    install(store, FIRST)
    store.begin(LARGE.incoming)
    calls = FailingCalls(monkeypatch)
    calls.fail_at = 1
    with pytest.raises(StorageError, match=r"slot\.b: Input/output error: the disk is failing"):
        store.write(0, LARGE.data[:MIB])
    assert not (folder / "slot.b").exists()
    assert store.begin(LARGE.incoming) == 0
    send(store, LARGE, chunk_bytes=MIB)
    assert store.finish(LARGE.card) is B


def test_no_copy_is_touched_before_the_other_is_durable(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it, and was killed before it was synced: a power cut would take both."""
    install(store, FIRST)
    install(store, SECOND)
    unsynced = {"record.0", "record.1", "slot.b"}

    def name_of(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def fsync(descriptor: int) -> None:
        unsynced.discard(name_of(descriptor))

    def pwrite(descriptor: int, data: bytes, offset: int, call: Any = os.pwrite) -> int:
        name = name_of(descriptor)
        assert not unsynced - {name}, f"{name} is written before {unsynced} are durable"
        unsynced.add(name)
        return int(call(descriptor, data, offset))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "pwrite", pwrite)
    again = open_store(folder)
    again.start_trial()
    unsynced |= {"record.0", "record.1"}  # the other process goes on
    store.confirm()
    again.revert("command")
    assert not unsynced


LOOKS_ON = """
import os, sys
from lineside.errors import StorageError
from lineside.slots import SlotName, open_store
if os.geteuid() == 0:
    os.setuid(65534)  # nothing is forbidden to root
store = open_store(sys.argv[1])
print(store.record.active.value, len(store.read(SlotName.A, 0, 9999)), bool(store.damage))
try:
    store.start_trial()
except StorageError as error:
    print(str(error).rpartition("/")[2])
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_who_may_only_read_can_look_and_is_told_why_not_more(damaged: bool) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        install(store := open_store(folder), FIRST)
        install(store, SECOND)
        if damaged:
            (folder / "record.1").write_bytes(b"rot")
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", LOOKS_ON, made],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        folder.chmod(0o700)
    assert done.stderr == ""
    seen, refused = done.stdout.splitlines()
    assert seen == f"a 5000 {damaged}"
    copy = "record.1" if damaged else "record.0"
    assert refused == f"{copy}: Permission denied: run this as the user whom the store belongs to"


def test_a_store_of_another_user_is_refused(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        install(open_store(made), FIRST)
        for path in Path(made).iterdir():
            path.chmod(0)
        Path(made).chmod(0o711)
        done = subprocess.run(
            [sys.executable, "-c", LOOKS_ON, made],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        Path(made).chmod(0o700)
    assert "StorageError" in done.stderr
    assert "Permission denied: run this as the user whom the store belongs to" in done.stderr


def test_areas_have_room_as_the_disk_has(store: Store) -> None:
    storage = store.storage
    assert storage.capacity_bytes(Area.RECORD_0) == 1024
    assert storage.capacity_bytes(Area.SLOT_A) > LARGE.card.size_bytes
    send(store, LARGE, chunk_bytes=MIB)
    # Others use the disk as well; what the slot holds counts as room for what comes next.
    assert storage.capacity_bytes(Area.SLOT_A) > storage.capacity_bytes(Area.SLOT_B)


def test_a_record_is_written_in_place_so_that_a_full_disk_cannot_stop_a_revert(
    store: Store, folder: Path
) -> None:
    install(store, FIRST)
    before = (folder / "record.0").stat()
    storage = store.storage
    storage.erase(Area.RECORD_0, 0, storage.page_bytes)
    after = (folder / "record.0").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, 1024)
    assert storage.read(Area.RECORD_0, 0, 2000) == b"\xff" * 1024


def test_a_part_within_a_file_is_erased_as_any_storage_does(folder: Path) -> None:
    storage = FolderStorage(folder, make=True)
    storage.erase(Area.SLOT_A, 0, 3 * MIB)
    storage.write(Area.SLOT_A, 0, LARGE.data)
    storage.erase(Area.SLOT_A, MIB, MIB)
    storage.sync()
    assert storage.read(Area.SLOT_A, MIB - 1, 3) == LARGE.data[MIB - 1 : MIB] + b"\xff\xff"
    assert storage.read(Area.SLOT_A, 2 * MIB, 5) == LARGE.data[2 * MIB : 2 * MIB + 5]
    storage.erase(Area.SLOT_A, MIB, 4 * MIB)
    assert storage.read(Area.SLOT_A, 0, 9 * MIB) == LARGE.data[:MIB]


def test_changes_bound_together_and_single_ones_never_wait_for_each_other(store: Store) -> None:
    """A transfer holds the storage over several calls, and another thread changes the record."""
    install(store, FIRST)
    binding = threading.Event()

    def change() -> None:
        binding.wait(5.0)
        store.discard()

    def bind() -> None:
        with store.storage.exclusive():
            binding.set()
            time.sleep(0.2)  # by then the other one waits
            store.discard()

    threads = [threading.Thread(target=body, daemon=True) for body in (change, bind)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5.0)
    assert not any(thread.is_alive() for thread in threads)
