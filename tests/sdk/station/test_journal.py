"""The journal as others read it: whole, in order, also while the station writes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import InputDataError, StorageError
from lineside.outbox import (
    Draft,
    JournalEntry,
    Late,
    Note,
    Outbox,
    OutboxSettings,
    RegionEntry,
    decode_entry,
    encode_entry,
    open_journal,
)
from lineside.outbox.database import Database
from lineside.outbox.store import Store
from lineside.outbox.upkeep import row_bytes
from lineside.verdict import Finding, Region, Timings

NEVER = threading.Event()
ENTRY = JournalEntry(
    turn="a1b2c3d4e5f60718",
    part='LED \u2460 "quoted" \\ and\nlong' * 20,
    evaluation=2,
    reason="beyond_limit",
    score=0.7312041,
    limit=0.5,
    unit="K/W",
    bundle="9f" * 32,
    taken_unix_ns=1795212345678901234,
    timings=Timings(infer_us=4180.25),
    frame_sha256="5d" * 32,
    regions=(
        RegionEntry(
            name="joint 1",
            region=Region(x0_px=0, y0_px=1, x1_px=2, y1_px=3),
            evaluation=2,
            outputs={"value": (0.1, 2.5e-9)},
        ),
    ),
    findings=(Finding(name="crack", probability=0.9),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def give(outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.put(Draft(encode=lambda _: b"{}", entry=encode_entry(ENTRY)), stopping=NEVER)
    assert outbox.flush(10)


def test_an_entry_comes_back_as_it_was_given(path: Path) -> None:
    outbox = Outbox(OutboxSettings(path=path))
    give(outbox, 1)
    with open_journal(path) as journal:  # the station still runs
        assert list(journal.entries()) == [(1, ENTRY)]
    give(outbox, 2)
    outbox.close()
    with open_journal(path) as journal:
        assert [seq for seq, _ in journal.entries()] == [1, 2, 3]
        assert [seq for seq, _ in journal.entries(after_seq=2)] == [3]
        first_ms = next(journal.rows()).at_unix_ms
        assert len(list(journal.entries(since_unix_ms=first_ms))) == 3
        assert list(journal.entries(since_unix_ms=2**62)) == []


def test_thousands_of_rows_come_in_order_and_each_once(path: Path) -> None:
    store = Store(path, max_mib=16)
    drafts = [Draft(encode=lambda _: b"{}", entry=b'{"turn":"%d"}' % n) for n in range(1700)]
    late = [Late(turn=str(n), entry=b'{"turn":"%d"}' % n) for n in range(1100)]
    store.commit(drafts, lates=late, notes=[Note(kind="drift", body=b"{}")] * 1000)
    store.close()
    with open_journal(path) as journal:
        assert [int(entry.turn) for _, entry in journal.entries()] == list(range(1700))
        assert [int(turn) for turn, _ in journal.late()] == list(range(1100))
        assert [note.number for note in journal.notes("drift")] == list(range(1, 1001))
        assert [verdict.seq for verdict in journal.waiting()] == list(range(1, 1701))


def test_a_row_that_is_no_entry_is_named(path: Path) -> None:
    store = Store(path, max_mib=16)
    store.commit([Draft(encode=lambda _: b"{}"), Draft(encode=lambda _: b"{}", entry=b"{half")])
    store.close()
    with open_journal(path) as journal, pytest.raises(InputDataError, match="seq 2: no entry"):
        list(journal.entries())


def test_a_verdict_that_has_no_entry_still_has_its_row(path: Path) -> None:
    store = Store(path, max_mib=16)
    store.commit([Draft(encode=lambda _: b"{}")])
    store.close()
    with open_journal(path) as journal:
        assert list(journal.entries()) == []
        assert [(row.seq, len(row.payload_sha256)) for row in journal.rows()] == [(1, 32)]


def test_nobody_writes_through_a_reader(path: Path) -> None:
    Store(path, max_mib=16).close()
    before = path.read_bytes()
    looking = Database(path, read_only=True)
    with pytest.raises(StorageError, match="readonly"), looking.mapped("write"):
        looking.db.execute("DELETE FROM counter")
    looking.close()
    assert path.read_bytes() == before


def test_there_must_be_an_outbox(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such outbox"), open_journal(tmp_path / "none"):
        pass
    assert list(tmp_path.iterdir()) == []


@given(st.integers(0, 20_000))
def test_a_row_takes_at_least_what_it_holds(entry_bytes: int) -> None:
    assert entry_bytes < row_bytes(entry_bytes) < 1.3 * entry_bytes + 2048


def test_a_newer_station_may_say_more() -> None:
    more = encode_entry(ENTRY).replace(b'{"turn"', b'{"humidity":0.4,"turn"', 1)
    assert decode_entry(more, source="") == ENTRY
