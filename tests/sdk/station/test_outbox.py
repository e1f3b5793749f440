"""The outbox: a sequence without gaps, nothing forgotten, every disk fault by name."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lineside.errors import StorageError
from lineside.framekey import FrameKey
from lineside.outbox import Draft, Note, Outbox, OutboxSettings, Stamp
from lineside.outbox.pending import PENDING_LIMIT
from lineside.outbox.ranges import Ranges
from lineside.outbox.reading import open_journal
from lineside.outbox.store import Store

NEVER = threading.Event()


def draft(text: str = "x", *, size: int = 0, key: FrameKey | None = None) -> Draft:
    def encode(stamp: Stamp) -> bytes:
        return f"{stamp.seq}:{stamp.job_id}:{text}".encode().ljust(size, b".")

    return Draft(encode=encode, key=key)


def key(name: str, *, size: int = 1, mtime: int = 1) -> FrameKey:
    return FrameKey(source="folder:/x", name=name.encode(), size_bytes=size, mtime_ns=mtime)


@pytest.fixture
def open_outbox(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    opened: list[Outbox] = []

    def make(*, max_mib: int = 64) -> Outbox:
        opened.append(Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite", max_mib=max_mib)))
        return opened[-1]

    yield make
    for outbox in opened[-1:]:
        outbox.close()


def fill(outbox: Outbox, count: int, *, size: int = 0) -> None:
    for number in range(count):
        assert outbox.put(draft(str(number), size=size), stopping=NEVER)
    assert outbox.flush(10)


def test_the_sequence_goes_on_after_a_restart_and_ids_stay_unique(
    open_outbox: Callable[..., Outbox],
) -> None:
    outbox = open_outbox()
    fill(outbox, 30)
    outbox.acknowledge([row.seq for row in outbox.unsent(0, 30)])
    outbox.close()
    outbox = open_outbox()
    assert (outbox.given, outbox.waiting) == (30, 0)
    fill(outbox, 5)
    rows = outbox.unsent(0, 99)
    assert [row.seq for row in rows] == [31, 32, 33, 34, 35]
    assert len({row.payload.split(b":")[1] for row in rows}) == 5


def test_only_acknowledged_rows_go(open_outbox: Callable[..., Outbox]) -> None:
    outbox = open_outbox()
    fill(outbox, 10)
    outbox.acknowledge([2, 3, 7])
    assert [row.seq for row in outbox.unsent(0, 99)] == [1, 4, 5, 6, 8, 9, 10]
    assert [row.seq for row in outbox.unsent(4, 2)] == [5, 6]
    outbox.acknowledge([2])
    assert outbox.waiting == 7
    outbox.close()
    outbox = open_outbox()
    assert [row.seq for row in outbox.unsent(0, 99)] == [1, 4, 5, 6, 8, 9, 10]
    assert outbox.acknowledged == 3


def test_several_verdicts_share_a_commit(open_outbox: Callable[..., Outbox]) -> None:
    outbox = open_outbox()
    commits = []
    outbox.when_committed(lambda: commits.append(1))
    fill(outbox, 500)
    assert outbox.given == 500
    # The first goes alone; while it is on its way the next ones gather.
    assert len(commits) < 250
    assert outbox.handover.percentiles().count == 500


def test_a_broker_faster_than_the_count_of_commits_loses_no_time_and_no_verdict(
    open_outbox: Callable[..., Outbox],
) -> None:
    outbox = open_outbox()
    least_waiting = [0]
    filled = threading.Event()

    def deliver_at_once() -> None:
        after_seq = 0
        while not filled.is_set() or outbox.waiting:
            for row in outbox.unsent(after_seq, 16):
                outbox.acknowledge([row.seq])
                least_waiting.append(outbox.waiting)
                after_seq = row.seq

    broker = threading.Thread(target=deliver_at_once)
    broker.start()
    for _ in range(400):
        fill(outbox, 1)
    filled.set()
    broker.join(30)
    assert outbox.acknowledged == outbox.given == outbox.delivery.percentiles().count == 400
    assert min(least_waiting) == 0


def test_a_verdict_is_on_disk_before_it_can_be_sent(
    open_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    outbox = open_outbox()
    fill(outbox, 3)
    with sqlite3.connect(tmp_path / "outbox.sqlite") as other:
        assert other.execute("SELECT count(*) FROM waiting").fetchone() == (3,)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


def test_a_note_that_is_kept_is_durable_though_verdicts_never_cease(
    open_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    outbox, over = open_outbox(), threading.Event()

    def give() -> None:
        while not over.is_set():
            outbox.put(draft(), stopping=over)

    line = threading.Thread(target=give)
    line.start()
    try:
        for number in range(5):
            assert outbox.keep(Note(kind="command", body=b"%d" % number), 20.0)
            with open_journal(tmp_path / "outbox.sqlite") as journal:
                assert [note.body for note in journal.notes("command")][-1] == b"%d" % number
    finally:
        over.set()
        line.join(20)


def test_a_note_that_the_disk_does_not_take_in_time_is_not_promised(
    open_outbox: Callable[..., Outbox],
) -> None:
    outbox = open_outbox()
    assert outbox.keep(Note(kind="command", body=b"1"), 10.0)
    moved = outbox.path.rename(outbox.path.with_name("moved"))
    assert not outbox.keep(Note(kind="command", body=b"2"), 0.3)
    moved.rename(outbox.path)
    assert outbox.keep(Note(kind="command", body=b"3"), 20.0)


def test_frames_are_remembered_with_their_verdict(open_outbox: Callable[..., Outbox]) -> None:
    outbox = open_outbox()
    outbox.put(draft(key=key("a")), stopping=NEVER)
    outbox.put(draft(key=key("b")), stopping=NEVER)
    outbox.put(draft(key=key("b", mtime=2)), stopping=NEVER)
    assert outbox.flush(5)
    assert outbox.recall("folder:/x", b"b") == key("b", mtime=2)
    assert outbox.recall("folder:/y", b"b") is None
    assert outbox.forget("folder:/x", lambda name: name == b"a", 3600) == 0
    assert outbox.forget("folder:/x", lambda name: name == b"a", -10) == 1
    assert outbox.recall("folder:/x", b"a") is None
    assert outbox.recall("folder:/x", b"b") is not None


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("with_another", [False, True])
def test_an_outbox_that_is_taken_away_is_a_fault_until_it_is_put_back(
    open_outbox: Callable[..., Outbox],
    wait_until: Callable[..., None],
    suffix: str,
    with_another: bool,
) -> None:
    outbox = open_outbox()
    assert outbox.put(draft("before"), stopping=NEVER)
    assert outbox.flush(10)
    file = outbox.path.with_name(outbox.path.name + suffix)
    moved = file.rename(file.with_name("moved"))
    if with_another:
        file.write_bytes(b"another")
    wait_until(lambda: outbox.fault is not None)  # also while no verdict comes
    assert f"{file}: was moved" in str(outbox.fault)
    assert outbox.put(draft("meanwhile"), stopping=NEVER)
    assert not outbox.flush(0.3)
    assert outbox.given == 1
    moved.replace(file)
    assert outbox.flush(10)
    wait_until(lambda: outbox.fault is None)
    assert [row.seq for row in outbox.unsent(0, 9)] == [1, 2]


def test_nobody_waits_while_a_slow_share_says_which_frames_are_gone(
    open_outbox: Callable[..., Outbox],
) -> None:
    outbox = open_outbox()
    names = [f"{number:04d}" for number in range(1100)]
    for name in names:
        assert outbox.put(draft(key=key(name)), stopping=NEVER)
    assert outbox.flush(10)
    asked: list[bytes] = []

    def is_gone(name: bytes) -> bool:
        if not asked:
            reader = threading.Thread(target=outbox.unsent, args=(0, 1), daemon=True)
            reader.start()
            reader.join(10)
            assert not reader.is_alive(), "the publisher waits"
        asked.append(name)
        return int(name) % 2 == 0

    assert outbox.forget("folder:/x", is_gone, -10) == 550
    assert asked == [name.encode() for name in names]
    assert outbox.recall("folder:/x", b"0700") is None
    assert outbox.recall("folder:/x", b"0701") is not None
    told = threading.Event()
    told.set()
    assert outbox.forget("folder:/x", lambda _: True, -10, told) == 0


def test_a_full_outbox_is_a_fault_until_the_broker_takes_some(
    open_outbox: Callable[..., Outbox], wait_until: Callable[..., None]
) -> None:
    outbox = open_outbox(max_mib=1)
    stop_filling = threading.Event()
    taken = 0

    def feed() -> None:
        nonlocal taken
        while outbox.put(draft(size=4000), stopping=stop_filling):
            taken += 1

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    wait_until(lambda: outbox.fault is not None)
    assert "outbox.max_mib" in str(outbox.fault)
    full_at = outbox.given
    assert 100 < full_at < 300
    assert [row.seq for row in outbox.unsent(0, 999)] == list(range(1, full_at + 1))
    # Full, it waits; it neither forgets nor grows in memory.
    wait_until(lambda: taken >= full_at + PENDING_LIMIT)
    outbox.acknowledge(range(1, 101))
    wait_until(lambda: outbox.given > full_at)
    stop_filling.set()
    feeder.join(10)
    received = list(range(1, 101))

    def drain() -> bool:
        rows = outbox.unsent(0, 999)
        received.extend(row.seq for row in rows)
        outbox.acknowledge([row.seq for row in rows])
        return outbox.flush(0.1) and outbox.waiting == 0

    wait_until(drain)
    wait_until(lambda: outbox.fault is None)
    assert outbox.given == taken
    assert received == list(range(1, taken + 1))


def test_put_gives_up_when_told_to_stop(
    open_outbox: Callable[..., Outbox], wait_until: Callable[..., None]
) -> None:
    outbox = open_outbox(max_mib=1)
    stopping = threading.Event()
    results: list[bool] = []

    def feed() -> None:
        while outbox.put(draft(size=4000), stopping=stopping):
            pass
        results.append(False)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    wait_until(lambda: outbox.fault is not None)
    stopping.set()
    feeder.join(5)
    assert results == [False]


DISK_FULL = """
import resource, sys, threading, time
from pathlib import Path
from lineside.outbox import Draft, Outbox, OutboxSettings
outbox = Outbox(OutboxSettings(path=Path(sys.argv[1])))
# The kernel refuses every write beyond this, as a full disk does.
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
stopping = threading.Event()
def feed():
    while outbox.put(Draft(encode=lambda stamp: b"x" * 4000), stopping=stopping): pass
threading.Thread(target=feed, daemon=True).start()
deadline = time.monotonic() + 10
while outbox.fault is None and time.monotonic() < deadline: time.sleep(0.01)
print(type(outbox.fault).__name__, flush=True)
at_fault = outbox.given
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while outbox.given <= at_fault and time.monotonic() < deadline: time.sleep(0.01)
stopping.set()
rows = outbox.unsent(0, 100_000)
in_order = [row.seq for row in rows] == list(range(1, len(rows) + 1))
print(outbox.fault, in_order, len(rows) > at_fault)
"""


def test_a_full_disk_is_a_fault_and_the_station_goes_on_when_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "outbox.sqlite")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["StorageError", "None True True"], done.stderr


def test_two_processes_cannot_share_an_outbox(open_outbox: Callable[..., Outbox]) -> None:
    first = open_outbox()
    with pytest.raises(StorageError, match="another station"):
        open_outbox()
    first.close()
    open_outbox()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no database at all, it is a text that is long enough " * 20, "not a database"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "open the outbox"),
    ],
)
def test_a_file_that_is_no_outbox_is_refused(
    open_outbox: Callable[..., Outbox], tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=words):
        open_outbox()
    assert path.read_bytes() == content


def test_torn_pages_are_found_at_opening(
    open_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    outbox = open_outbox()
    fill(outbox, 200, size=500)
    outbox.close()
    path = tmp_path / "outbox.sqlite"
    data = bytearray(path.read_bytes())
    # A page of a tree of rows, torn in the middle as a power cut leaves it.
    data[-3 * 2048 + 8 : -2 * 2048] = bytes(2048 - 8)
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        open_outbox()


def test_pages_that_are_torn_while_it_runs_are_a_fault(
    open_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    outbox = open_outbox()
    fill(outbox, 400, size=3000)
    assert outbox.fault is None
    for name in ("outbox.sqlite", "outbox.sqlite-wal"):
        path = tmp_path / name
        with path.open("r+b") as file:
            file.seek(2 * 2048)
            file.write(b"\xff" * (path.stat().st_size - 2 * 2048))
    with pytest.raises(StorageError, match="cannot read the outbox"):
        outbox.unsent(0, 1000)
    assert "cannot read the outbox" in str(outbox.fault)


def test_someone_elses_database_and_a_newer_format_are_left_alone(
    open_outbox: Callable[..., Outbox], tmp_path: Path
) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StorageError, match="no outbox"):
        open_outbox()
    path.unlink()
    open_outbox().close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StorageError, match="format 99"):
        open_outbox()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM counter",
        "DROP TABLE waiting",
        "DROP TABLE journal",
        "DELETE FROM waiting WHERE seq = 1",
        "DELETE FROM acknowledged",
    ],
)
def test_what_was_taken_out_of_the_file_is_missed_at_opening(
    open_outbox: Callable[..., Outbox], tmp_path: Path, change: str
) -> None:
    outbox = open_outbox()
    fill(outbox, 3)
    outbox.acknowledge([2])
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as someone:
        someone.execute(change)
    someone.close()
    with pytest.raises(StorageError, match="the outbox is damaged"):
        open_outbox()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"writable|does not exist"):
        Outbox(OutboxSettings(path=tmp_path / "nowhere" / "outbox.sqlite"))


def test_a_read_only_file_system_is_a_storage_error() -> None:
    # /proc refuses new files whoever asks, also root.
    with pytest.raises(StorageError):
        Outbox(OutboxSettings(path=Path("/proc/self/outbox.sqlite")))


KILLED = """
import os, sys, threading
from pathlib import Path
from lineside.outbox import Draft, Outbox, OutboxSettings
outbox = Outbox(OutboxSettings(path=Path(sys.argv[1])))
def tell():
    os.write(1, b"%d\\n" % outbox.given)
outbox.when_committed(tell)
while True:
    outbox.put(Draft(encode=lambda stamp: b"%d" % stamp.seq), stopping=threading.Event())
"""


def test_what_was_given_survives_kill_9(open_outbox: Callable[..., Outbox], tmp_path: Path) -> None:
    told = 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "outbox.sqlite")], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        for _ in range(20):
            told = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        complete = [line for line in rest if line.isdigit()]
        told = max([told, *map(int, complete[:-1])])
    outbox = open_outbox()
    rows = outbox.unsent(0, 10**6)
    assert outbox.given >= told
    assert [row.seq for row in rows] == list(range(1, outbox.given + 1))
    assert [int(row.payload) for row in rows] == list(range(1, outbox.given + 1))


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary: any order of commits, acknowledgements and reopenings."""

    @initialize()
    def start(self) -> None:
        from tempfile import TemporaryDirectory

        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox.sqlite"
        self.store = Store(self.path, max_mib=8)
        self.rows: dict[int, bytes] = {}
        self.given = 0

    @rule(texts=st.lists(st.text("abc", max_size=3), max_size=5), data=st.data())
    def commit(self, texts: list[str], data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.rows)))) if self.rows else set()
        runs = Ranges((seq, seq) for seq in gone)
        stamps = self.store.commit([draft(text) for text in texts], tuple(runs))
        for seq in gone:
            del self.rows[seq]
        for text, stamp in zip(texts, stamps, strict=True):
            self.given += 1
            assert stamp.seq == self.given
            self.rows[stamp.seq] = draft(text).encode(stamp)

    @rule()
    def fail(self) -> None:
        def broken(_: Stamp) -> bytes:
            raise StorageError("torn in the middle")

        with pytest.raises(StorageError):
            runs = Ranges((seq, seq) for seq in self.rows)
            self.store.commit([draft("lost"), Draft(encode=broken)], tuple(runs))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store(self.path, max_mib=8)
        self.store.check()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        assert {row.seq: row.payload for row in self.store.unsent(0, 10**6)} == self.rows
        counters = self.store.counters()
        gone = Ranges((seq, seq) for seq in range(1, self.given + 1) if seq not in self.rows)
        assert (counters.given, counters.acknowledged) == (self.given, tuple(gone))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_no_descriptor_is_left_open(open_outbox: Callable[..., Outbox], tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        outbox = open_outbox()
        fill(outbox, 2)
        outbox.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
