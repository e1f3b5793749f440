"""Damage to the file and its log: refused with a reason, or mended by SQLite; never in silence."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import StorageError
from lineside.framekey import FrameKey
from lineside.outbox import Draft, Outbox, OutboxSettings, audit, open_journal
from lineside.outbox.database import PAGE_BYTES
from lineside.outbox.folding import FOLD_AT_BYTES
from lineside.outbox.logsums import Sums, frame_sums

FRAME_BYTES = 24 + PAGE_BYTES

# A station that is ended by kill -9 after so many groups, its log not folded into the file.
KILLED = """
import os, signal, sys, threading
from pathlib import Path
from lineside.outbox import Draft, JournalEntry, Outbox, OutboxSettings, encode_entry
outbox = Outbox(OutboxSettings(path=Path(sys.argv[1])))
def draft(number):
    entry = encode_entry(JournalEntry(turn=f"{number:016x}", evaluation=1, detail="." * 300))
    return Draft(
        encode=lambda stamp: b'{"seq":%d,"id":"%s","ev":1}' % (stamp.seq, stamp.job_id.encode()),
        entry=entry,
    )
for number in range(int(sys.argv[2])):
    outbox.put(draft(number), stopping=threading.Event())
    assert outbox.flush(10)
    if number == 2:
        outbox.acknowledge([1])
os.write(1, b"%d" % outbox.given)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a killed station leaves it: 20 groups of one verdict, all in the log."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder / "outbox.sqlite"), "20"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b"20", done.stderr
    assert (folder / "outbox.sqlite-wal").stat().st_size > 20 * FRAME_BYTES
    return folder


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    shutil.copytree(killed, tmp_path / "copy")
    return tmp_path / "copy" / "outbox.sqlite"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def index_of(path: Path) -> Path:
    return path.with_name(path.name + "-shm")


def damage(path: Path, at: int, count: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for place in range(at, min(at + count, len(data))):
        data[place] ^= 0xFF
    path.write_bytes(data)


def given_and_agreed(path: Path) -> int:
    """Start, and have the audit agree: how many verdicts are there."""
    outbox = Outbox(OutboxSettings(path=path))
    given = outbox.given
    outbox.close()
    with open_journal(path) as journal:
        report = audit(journal)
    assert report.gaps == []
    return given


@given(st.binary(min_size=3 * 40, max_size=3 * 40), st.booleans())
def test_the_sums_are_those_of_sqlite(data: bytes, big_endian: bool) -> None:
    """Against its algorithm, pair by pair: three frames of a head and 16 bytes."""
    s1, s2, sums = 7, 9, Sums(7, 9)
    for at, add in enumerate(frame_sums(data, 40, big_endian=big_endian)):
        frame = data[40 * at : 40 * (at + 1)]
        words = struct.unpack(">6I" if big_endian else "<6I", frame[:8] + frame[24:])
        for x, y in zip(words[::2], words[1::2], strict=True):
            s1 = (s1 + x + s2) % 2**32
            s2 = (s2 + y + s1) % 2**32
        sums = sums.after_frame(add, 40)
        assert sums == (s1, s2)


def test_what_a_killed_station_confirmed_is_there(path: Path) -> None:
    assert given_and_agreed(path) == 20


def frames(path: Path) -> int:
    return (log_of(path).stat().st_size - 32) // FRAME_BYTES


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("with_index", [True, False])
def test_damage_to_confirmed_pages_of_the_log_is_refused(
    path: Path, share: float, with_index: bool
) -> None:
    """SQLite alone would start with what was before it, and give numbers again."""
    place = int(share * frames(path))
    if not with_index:
        index_of(path).unlink()  # as after a power cut
        place = min(place, frames(path) - 20)  # at least two groups lie behind
    damage(log_of(path), 32 + place * FRAME_BYTES + 100)
    before = {file.name: file.read_bytes() for file in path.parent.glob("outbox.sqlite*")}
    with pytest.raises(StorageError, match=r"-wal is damaged.*Move the file aside"):
        Outbox(OutboxSettings(path=path))
    # The audit says so too, and neither a second start nor the audit makes it whole.
    with pytest.raises(StorageError, match="-wal is damaged"), open_journal(path):
        pass
    with pytest.raises(StorageError, match="-wal is damaged"):
        Outbox(OutboxSettings(path=path))
    assert path.read_bytes() == before["outbox.sqlite"]
    assert log_of(path).read_bytes() == before["outbox.sqlite-wal"]


def test_a_log_that_is_gone_or_has_no_head_is_missed(path: Path) -> None:
    damage(log_of(path), 0, 32)
    with pytest.raises(StorageError, match=r"-wal is damaged: \d+ confirmed pages"):
        Outbox(OutboxSettings(path=path))


def test_a_log_that_somebody_removed_is_missed(path: Path) -> None:
    log_of(path).unlink()
    with pytest.raises(StorageError, match=r"-wal is damaged: \d+ confirmed pages"):
        Outbox(OutboxSettings(path=path))


@pytest.mark.parametrize("cut", [1, FRAME_BYTES, 2 * FRAME_BYTES + 77])
def test_a_tail_that_a_power_cut_tore_is_cut_off(path: Path, cut: int) -> None:
    """The last group was on its way: nobody was told that it is given. The index is of no use."""
    index_of(path).unlink()
    log_of(path).write_bytes(log_of(path).read_bytes()[:-cut])
    assert given_and_agreed(path) == 19


def test_any_torn_page_of_the_file_is_refused_or_the_audit_agrees(
    path: Path, tmp_path: Path
) -> None:
    """Pages filled with noise, with zeros, cut in the middle; all folded into the file before."""
    Outbox(OutboxSettings(path=path)).close()
    whole = path.read_bytes()
    noise = random.Random(7).randbytes(PAGE_BYTES)
    refused = 0
    for page in range(len(whole) // PAGE_BYTES):
        for torn in (noise, bytes(PAGE_BYTES), whole[:512] + noise[512:]):
            data = bytearray(whole)
            data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = torn
            path.write_bytes(data)
            try:
                assert given_and_agreed(path) == 20
            except StorageError as error:
                assert str(path) in str(error)
                refused += 1
            for rest in (log_of(path), index_of(path)):
                rest.unlink(missing_ok=True)
    # A page that holds nothing may be torn; there are few, if any.
    assert refused >= 3 * (len(whole) // PAGE_BYTES - 2)


def test_a_changed_byte_inside_a_payload_is_refused_and_found_by_the_audit(path: Path) -> None:
    """No page is torn by it; the journal has the hash of what was given."""
    Outbox(OutboxSettings(path=path)).close()
    data = path.read_bytes()
    place = data.rindex(b'"ev":1}')
    path.write_bytes(data[:place] + b'"ev":2}' + data[place + 7 :])
    with open_journal(path) as journal:
        (gap,) = audit(journal).gaps
    assert (gap.kind, gap.first) == ("payload", gap.last)
    with pytest.raises(StorageError, match=f"verdict {gap.first} is not what was given"):
        Outbox(OutboxSettings(path=path))


def test_a_live_station_is_not_taken_for_damage(path: Path) -> None:
    """The audit opens the file again and again while its log grows and begins anew."""
    outbox = Outbox(OutboxSettings(path=path))
    stop = threading.Event()

    def feed() -> None:
        while outbox.put(Draft(encode=lambda _: bytes(3000)), stopping=stop) and not stop.is_set():
            pass

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    seen, looks = 20, 0
    while seen < 4000:
        with open_journal(path) as journal:
            given = journal.standing().given
        assert given >= seen
        seen, looks = given, looks + 1
    stop.set()
    feeder.join(20)
    outbox.close()
    assert looks > 1


def test_damage_that_even_the_words_of_the_fault_cannot_be_read_of_is_refused(path: Path) -> None:
    """SQLite quotes the damaged table; Python's module raises what is no SQLite error."""
    Outbox(OutboxSettings(path=path)).close()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"CREATE TABLE counter (", b"CREATE TABLE counter \xce", 1))
    with pytest.raises(StorageError, match="it is damaged"):
        Outbox(OutboxSettings(path=path))


# SQLite's own: whoever can lock this byte takes itself for the first and begins the index anew.
FIRST_ONE_BYTE = 128
LOCK_IT = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]))
"""


def is_guarded(path: Path) -> bool:
    """Whether another process is kept from beginning the log's index anew."""
    words = [sys.executable, "-c", LOCK_IT, str(index_of(path)), str(FIRST_ONE_BYTE)]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    assert tried.returncode == 0 or "BlockingIOError" in tried.stderr, tried.stderr
    return tried.returncode != 0


def test_reading_the_index_takes_no_lock_away(path: Path) -> None:
    """Else `lineside audit` beside a running station ends it with SIGBUS."""
    outbox = Outbox(OutboxSettings(path=path))
    outbox.put(Draft(encode=lambda _: b"1"), stopping=threading.Event())
    assert outbox.flush(20)
    assert outbox.unsent(0, 100)
    assert is_guarded(path)
    for _ in range(2):
        with open_journal(path) as journal:
            assert journal.standing().given == outbox.given
        assert is_guarded(path)
    outbox.close()


def test_descriptors_of_the_index_are_given_back(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        Outbox(OutboxSettings(path=path)).close()
        with open_journal(path):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_log_does_not_grow_from_kill_to_kill(tmp_path: Path) -> None:
    """Each life writes less than what makes it fold; all of them together a lot more."""
    path = tmp_path / "life-0" / "outbox.sqlite"
    path.parent.mkdir()
    sizes = []
    for life in range(1, 11):
        outbox = Outbox(OutboxSettings(path=path))
        for _ in range(400):
            outbox.put(Draft(encode=lambda _: bytes(3000)), stopping=threading.Event())
        assert outbox.flush(60)
        # As a kill leaves it: the log is not folded in.
        after = tmp_path / f"life-{life}" / "outbox.sqlite"
        after.parent.mkdir()
        for file in (path, log_of(path)):
            shutil.copy(file, after.parent)
        sizes.append(log_of(after).stat().st_size)
        outbox.close()
        path = after
    assert sizes[0] < FOLD_AT_BYTES
    assert max(sizes) < 2.5 * FOLD_AT_BYTES < sum(sizes)


@pytest.mark.parametrize("at", ["name", "mtime"])
def test_a_changed_mark_of_a_frame_is_refused_not_judged_again(tmp_path: Path, at: str) -> None:
    path = tmp_path / "outbox.sqlite"
    key = FrameKey(source="folder:/f", name=b"part-LED-000317.png", size_bytes=9, mtime_ns=77777777)
    outbox = Outbox(OutboxSettings(path=path))
    outbox.put(Draft(encode=lambda _: b"{}", key=key), stopping=threading.Event())
    assert outbox.flush(10)
    outbox.close()
    data = bytearray(path.read_bytes())
    found = {"name": b"LED-000317", "mtime": (77777777).to_bytes(4, "big")}[at]
    assert data.count(found) == 1
    data[data.index(found) + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="mark of verdict 1's frame"):
        Outbox(OutboxSettings(path=path))
