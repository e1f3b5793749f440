"""Several processes on one store: one changes at a time, one station runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slot_files import install, slot_file

from lineside.errors import StorageError, StoreBusyError
from lineside.slots import FolderStorage, SlotState, lock_station, open_store

FIRST, SECOND = slot_file(1), slot_file(2)
COUNT_STARTS = """
import sys
from lineside.errors import StoreBusyError
from lineside.slots import open_store
store = open_store(sys.argv[1])
counted = []
while len(counted) < 20:
    try:
        counted.append(store.count_start())
    except StoreBusyError:  # nothing was changed
        pass
print(*counted)
"""
HOLD = """
import sys
from lineside.slots import {name}
with {name}(sys.argv[1]){call}:
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = open_store(tmp_path / "store", make=True)
    install(store, FIRST)
    install(store, SECOND)
    return tmp_path / "store"


@contextmanager
def another_holds(folder: Path, name: str, call: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process has a lock until the block ends."""
    words = [sys.executable, "-c", HOLD.format(name=name, call=call), str(folder)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_two_processes_count_each_start_once(folder: Path) -> None:
    store = open_store(folder)
    store.start_trial()
    words = [sys.executable, "-c", COUNT_STARTS, str(folder)]
    processes = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [error for _, error in said] == ["", ""]
    counted = sorted(int(word) for out, _ in said for word in out.split())
    assert counted == list(range(1, 41))
    assert store.record.starts == 40


def test_a_store_that_another_process_is_changing_is_busy_and_can_be_looked_at(
    folder: Path,
) -> None:
    store = open_store(folder)
    with another_holds(folder, "FolderStorage", ".exclusive()"):
        with pytest.raises(StoreBusyError, match="another process is changing this store: try aga"):
            store.start_trial()
        assert store.record.find(SlotState.PENDING) is not None
        assert open_store(folder).record == store.record
    store.start_trial()


def test_another_object_of_the_same_process_waits_as_well(folder: Path) -> None:
    first, second = FolderStorage(folder), FolderStorage(folder)
    order: list[str] = []

    def enter() -> None:
        with second.exclusive():
            order.append("second")

    thread = threading.Thread(target=enter)
    with first.exclusive(), first.exclusive():
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_what_another_process_changed_is_seen(folder: Path) -> None:
    store = open_store(folder)
    assert store.record.active is not None
    script = "import sys; from lineside.slots import open_store; open_store(sys.argv[1])"
    script += ".start_trial()"
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, timeout=120)
    assert store.record.find(SlotState.TRIAL) is store.record.active
    store.confirm()


def test_one_station_runs_on_a_store(folder: Path) -> None:
    with another_holds(folder, "lock_station") as process:
        with (
            pytest.raises(
                StoreBusyError, match=rf"another station \(process {process.pid}\) runs on this"
            ),
            lock_station(folder),
        ):
            raise AssertionError("two stations run")
        # A station does not keep others from installing.
        open_store(folder).start_trial()
    with lock_station(folder):
        assert (folder / "station.lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(StoreBusyError), lock_station(folder):
            raise AssertionError("two stations run")
    with lock_station(folder):
        pass


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"), lock_station(tmp_path / "missing"):
        raise AssertionError("it runs nowhere")
    (tmp_path / "station.lock").mkdir()
    with pytest.raises(StorageError, match=r"station\.lock: "), lock_station(tmp_path):
        raise AssertionError("it runs over a folder")


def test_a_lock_left_by_a_dead_process_is_free(folder: Path) -> None:
    with another_holds(folder, "lock_station"):
        pass
    with lock_station(folder):
        pass
    with another_holds(folder, "FolderStorage", ".exclusive()"):
        pass
    open_store(folder).start_trial()
