"""A disk that becomes full to the last byte while a store lies on it, and is freed again.

What comes in is refused with words; what judges goes on; a trial is confirmed or reverted all the
same, because the record is written in place; and with room again the install goes on.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from disk_full import fill, free
from slot_files import SlotFile, active_data, install_confirmed, send
from small_bundles import Factory

from lineside.errors import LinesideError, StorageError
from lineside.slots import Store, open_store

_DISK_MIB: Final = 16
_PART_BYTES: Final = 3_000_000


@dataclass(kw_only=True)
class Outcome:
    """What came out.

    Attributes:
        times: the disk was filled.
        refused: installs, with words.
        confirmed, reverted: trials, on the full disk.
        bad: what may not be, in words.
    """

    times: int = 0
    refused: int = 0
    confirmed: int = 0
    reverted: int = 0
    bad: list[str] = field(default_factory=list)


def fill_often(folder: Path, times: int, chance: random.Random) -> Outcome:
    """Each time within an install at a random byte, and on trial."""
    factory, outcome = Factory(), Outcome()
    files = [factory.seal(str(n), counter=1, part_bytes=_PART_BYTES) for n in range(2)]
    with _small_disk(folder) as disk:
        install_confirmed(open_store(disk / "store", make=True), files[0])
        for number in range(times):
            outcome.times += 1
            store = open_store(disk / "store")
            active = active_data(store)
            new = next(file for file in files if file.data != active)
            try:
                _install_on_full_disk(store, disk, new, chance.randrange(len(new.data)), outcome)
                assert active_data(store) == active, "what judges is another"
                free(disk)
                send(store, new, chunk_bytes=65536)
                store.finish(new.card)
                store.start_trial()
                fill(disk)
                _end_trial(store, number, outcome)
                data = active_data(open_store(disk / "store"))
                assert data == (active if number % 2 else new.data), "what judges is another"
                assert data is not None and factory.check(data), "nothing judges"
            except (LinesideError, AssertionError) as error:
                outcome.bad.append(f"time {number}: {type(error).__name__}: {error}")
                break
            free(disk)
    return outcome


def _install_on_full_disk(
    store: Store, disk: Path, file: SlotFile, end: int, outcome: Outcome
) -> None:
    send(store, file, chunk_bytes=65536, end=end)
    written = store.written
    fill(disk)
    if written < len(file.data):
        try:
            store.write(written, file.data[written:])
        except StorageError as error:
            assert "No space left on device: make room" in str(error), str(error)
            outcome.refused += 1


def _end_trial(store: Store, number: int, outcome: Outcome) -> None:
    store.count_start()
    if number % 2:
        store.revert("disagreement")
        outcome.reverted += 1
    else:
        store.confirm()
        outcome.confirmed += 1


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs")
    subprocess.run(["mount", *options, str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
