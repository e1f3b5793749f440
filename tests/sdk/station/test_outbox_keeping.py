"""What the outbox keeps and lets go: ranges, expiry, the journal's age and size, pressure."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import InputDataError
from lineside.outbox import (
    Draft,
    JournalEntry,
    Late,
    Note,
    Outbox,
    OutboxSettings,
    encode_entry,
    open_journal,
)
from lineside.outbox.expiry import BLOCK, ExpiryBlocks
from lineside.outbox.pending import ASIDE_LIMIT, PENDING_LIMIT, Pending
from lineside.outbox.ranges import Ranges
from lineside.outbox.retention import Keeper
from lineside.outbox.room import TELL_S, PressureGauge, Room
from lineside.outbox.store import Store

NEVER = threading.Event()
DAY_MS = 86_400_000


def entry(number: int, *, reason: str = "within_limit", size: int = 0) -> bytes:
    return encode_entry(
        JournalEntry(turn=f"{number:016x}", evaluation=1, reason=reason, detail="." * size)
    )


def draft(number: int = 0, *, expires_unix_ms: int = 2**53, size: int = 0) -> Draft:
    return Draft(
        encode=lambda stamp: f"{stamp.seq}:{stamp.job_id}".encode(),
        expires_unix_ms=expires_unix_ms,
        entry=entry(number, size=size),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    made = Outbox(OutboxSettings(path=path))
    yield made
    made.close()


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path, max_mib=16)
    yield made
    made.close()


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6))), st.integers(1, 45))
def test_ranges_are_a_set(runs: list[tuple[int, int]], end: int) -> None:
    ranges, held = Ranges(), set[int]()
    for first, length in runs:
        new = set(range(first, first + length + 1)) - held
        assert ranges.add(first, first + length) == len(new)
        held |= new
    assert {number for number in range(50) if number in ranges} == held
    assert ranges.total == len(held)
    assert [n for first, last in ranges for n in range(first, last + 1)] == sorted(held)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(ranges))
    missing = [n for first, last in ranges.gaps(1, end) for n in range(first, last + 1)]
    assert missing == [n for n in range(1, end + 1) if n not in held]


class Rows:
    """Waiting rows in memory, and how often they were asked for."""

    def __init__(self, rows: dict[int, int]) -> None:
        self.rows = rows
        self.asked = 0

    def _between(self, first: int, last: int) -> dict[int, int]:
        self.asked += 1
        return {seq: at for seq, at in self.rows.items() if first <= seq <= last}

    def first_waiting(self) -> int | None:
        return min(self.rows, default=None)

    def soonest_expiry(self, first: int, last: int) -> int | None:
        return min(self._between(first, last).values(), default=None)

    def newest_expired(self, first: int, last: int, now_unix_ms: int) -> int | None:
        rows = self._between(first, last)
        return max((seq for seq, at in rows.items() if at <= now_unix_ms), default=None)


@given(st.data())
def test_what_is_live_is_found_exactly_whatever_clocks_did(data: st.DataObject) -> None:
    """Against the definition: expiry in any order, any rows acknowledged, a start in between."""
    blocks = ExpiryBlocks()
    rows = Rows({})
    seq = data.draw(st.integers(1, 2 * BLOCK))
    for _ in range(data.draw(st.integers(1, 4))):
        count = data.draw(st.integers(1, 2 * BLOCK))
        base = data.draw(st.integers(0, 50))
        step = data.draw(st.sampled_from([-1, 0, 1]))
        new = [(seq + at, base + step * at // 100) for at in range(count)]
        seq += count
        if data.draw(st.booleans()):
            blocks = ExpiryBlocks()  # the station was started again
        blocks.learn(new)
        rows.rows |= dict(new)
        low = data.draw(st.integers(1, seq))
        rows.rows = {number: at for number, at in rows.rows.items() if number >= low}
        for now in data.draw(st.lists(st.integers(-5, 55), min_size=1, max_size=3)):
            expired = max((number for number, at in rows.rows.items() if at <= now), default=0)
            assert blocks.live_from(now, given=seq - 1, waiting=rows) == expired + 1


def test_a_million_waiting_verdicts_are_not_read_to_find_what_is_live() -> None:
    blocks = ExpiryBlocks()
    count = 1_000_000
    blocks.learn((seq, seq) for seq in range(1, count + 1))
    rows = Rows({seq: seq for seq in range(count - BLOCK, count + 1)} | {1: 1})
    assert blocks.live_from(0, given=count, waiting=rows) == 1
    assert blocks.live_from(count - 5, given=count, waiting=rows) == count - 4
    assert rows.asked <= 4


def test_the_outbox_tells_live_from_history(outbox: Outbox, path: Path) -> None:
    assert outbox.live_from(0) == 1
    for number in range(1, 11):
        outbox.put(draft(number, expires_unix_ms=1000 * number), stopping=NEVER)
    assert outbox.flush(10)
    assert [outbox.live_from(now) for now in (0, 999, 1000, 4500, 10_000)] == [1, 1, 2, 5, 11]
    assert [row.seq for row in outbox.unsent(0, 99, before_seq=5)] == [1, 2, 3, 4]
    assert [row.seq for row in outbox.unsent(4, 2)] == [5, 6]
    # What expired and was acknowledged does not make what waits history.
    outbox.acknowledge([4])
    outbox.close()
    again = Outbox(OutboxSettings(path=path))
    assert again.live_from(4000) == 4
    again.close()


def test_acknowledged_rows_that_are_still_in_the_file_hide_nothing(outbox: Outbox) -> None:
    for number in range(30):
        outbox.put(draft(number), stopping=NEVER)
    assert outbox.flush(10)
    outbox.acknowledge(range(1, 21))
    assert [row.seq for row in outbox.unsent(0, 3)] == [21, 22, 23]
    assert outbox.waiting == 10


def test_an_acknowledgement_counts_once_and_only_of_what_was_given(
    outbox: Outbox, wait_until: Callable[..., None]
) -> None:
    for number in range(40):
        outbox.put(draft(number), stopping=NEVER)
    assert outbox.flush(10)
    outbox.acknowledge([*range(1, 36), 41, 0, -1])
    wait_until(lambda: outbox.unsent(0, 1)[0].seq == 36)
    outbox.acknowledge(range(1, 36))
    assert (outbox.acknowledged, outbox.waiting) == (35, 5)


def test_a_million_acknowledgements_take_no_memory() -> None:
    ranges, pending = Ranges(), Pending()
    for seq in range(1, 1_000_001):
        ranges.add(seq, seq)
        pending.acknowledge(seq)
    assert list(ranges) == [(1, 1_000_000)]
    assert pending.take(everything=True).acknowledged == ((1, 1_000_000),)


def test_late_results_and_notes_are_kept_with_the_verdict(outbox: Outbox, path: Path) -> None:
    outbox.put(Draft(encode=lambda _: b"{}", entry=entry(7, reason="deadline")), stopping=NEVER)
    assert outbox.put_late(Late(turn=f"{7:016x}", entry=entry(7)))
    assert outbox.note(Note(kind="disposition", body=b'{"by":"J"}'))
    assert outbox.note(Note(kind="changeover", body=b"{}"))
    assert outbox.flush(10)
    with open_journal(path) as journal:
        assert [(seq, made.reason) for seq, made in journal.entries()] == [(1, "deadline")]
        assert [(turn, made.turn) for turn, made in journal.late()] == [(f"{7:016x}",) * 2]
        assert [note.body for note in journal.notes("disposition")] == [b'{"by":"J"}']
        assert [note.number for note in journal.notes()] == [1, 2]
    with pytest.raises(InputDataError, match="a note of 20000 bytes"):
        outbox.note(Note(kind="fault", body=bytes(20_000)))


def test_what_waits_in_memory_is_bounded_and_late_results_never_come_first() -> None:
    pending = Pending()
    drafts = sum(pending.offer_draft(draft(), 0) for _ in range(2 * PENDING_LIMIT))
    lates = sum(pending.offer_late(Late(turn="", entry=b"")) for _ in range(2 * ASIDE_LIMIT))
    notes = sum(pending.offer_note(Note(kind="", body=b"")) for _ in range(2 * ASIDE_LIMIT))
    assert (drafts, lates, notes) == (PENDING_LIMIT, ASIDE_LIMIT, ASIDE_LIMIT)
    pending.put_back(pending.take(everything=False), acknowledged=False)
    half = pending.take(everything=False)
    assert (len(half.drafts), len(half.lates), len(half.notes)) == (PENDING_LIMIT // 2, 0, 0)
    pending.done()
    rest = pending.take(everything=False)
    assert (len(rest.drafts), len(rest.lates)) == (PENDING_LIMIT // 2, ASIDE_LIMIT)
    assert pending.is_busy
    pending.done()
    assert pending.is_empty


def test_reading_does_not_keep_the_writer_waiting(outbox: Outbox, path: Path) -> None:
    outbox.put(draft(1), stopping=NEVER)
    assert outbox.flush(10)
    with open_journal(path) as journal, journal.snapshot():
        before = journal.standing().given
        for number in range(2000):
            outbox.put(draft(number, size=2000), stopping=NEVER)
        assert outbox.flush(20)
        assert outbox.given == 2001
        assert (before, journal.standing().given) == (1, 1)
        assert sum(1 for _ in journal.rows()) == 1
    with open_journal(path) as journal:
        assert sum(1 for _ in journal.rows()) == 2001


def seqs_in_journal(path: Path) -> list[int]:
    with open_journal(path) as journal:
        return [row.seq for row in journal.rows()]


def test_the_journal_keeps_to_its_size_and_waiting_verdicts_stay(path: Path) -> None:
    outbox = Outbox(OutboxSettings(path=path, journal_max_mib=1))
    for number in range(3000):
        outbox.put(draft(number, size=700), stopping=NEVER)
    assert outbox.flush(20)
    outbox.close()
    kept = seqs_in_journal(path)
    assert 1000 < len(kept) < 2200
    assert kept == list(range(kept[0], 3001))
    with open_journal(path) as journal:
        assert journal.standing().journal_from == kept[0]
        assert sum(1 for _ in journal.waiting()) == 3000


@pytest.mark.parametrize("size", [0, 300, 900, 1800, 1950, 5000])
def test_what_the_journal_takes_is_counted_as_the_file_grows(
    store: Store, path: Path, size: int
) -> None:
    count = 400
    store.fold_log()
    before = path.stat().st_size
    rows = [Draft(encode=lambda _: b"", entry=entry(n, size=size)) for n in range(count)]
    store.commit(rows)
    store.fold_log()
    # What waits are rows of 15 bytes.
    grown = path.stat().st_size - before - 15 * count
    assert 0.85 * grown < store.counters().journal_bytes < 1.15 * grown


def test_the_log_stays_short_with_a_reader_that_never_rests(outbox: Outbox, path: Path) -> None:
    """SQLite alone lets it grow as long as somebody reads whenever the log could begin anew."""
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            outbox.unsent(0, 64)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    longest = 0
    for number in range(12_000):
        outbox.put(draft(number, size=1500), stopping=NEVER)
        if number % 500 == 0:
            longest = max(longest, path.with_name("outbox.sqlite-wal").stat().st_size)
    stop.set()
    reader.join(10)
    assert outbox.flush(20)
    assert path.stat().st_size > 2**24 > longest


def test_old_rows_go_in_small_batches_also_when_the_clock_jumps(store: Store, path: Path) -> None:
    """Ten years ahead: what goes is what one batch allows, not the whole journal."""
    store.commit([draft(number) for number in range(3000)])
    in_ten_years_ms = time.time_ns() // 1_000_000 + 3650 * DAY_MS
    store.upkeep.drop_journal(256, before_unix_ms=in_ten_years_ms, max_bytes=2**30)
    assert seqs_in_journal(path) == list(range(257, 3001))
    # And back: nothing is old then.
    store.upkeep.drop_journal(256, before_unix_ms=0, max_bytes=2**30)
    assert seqs_in_journal(path)[0] == 257


def test_a_late_result_goes_with_its_verdict(store: Store, path: Path) -> None:
    store.commit(
        [Draft(encode=lambda _: b"", entry=entry(n, reason="deadline")) for n in range(4)],
        lates=[Late(turn=f"{n:016x}", entry=entry(n, size=100)) for n in (1, 3)],
    )
    left = store.upkeep.drop_journal(2, before_unix_ms=2**62, max_bytes=-1)
    with open_journal(path) as journal:
        assert [turn for turn, _ in journal.late()] == [f"{3:016x}"]
    assert left > 0
    assert store.upkeep.drop_journal(9, before_unix_ms=2**62, max_bytes=-1) == 0


def test_notes_go_by_age_and_number(store: Store, path: Path) -> None:
    store.commit([], notes=[Note(kind="fault", body=b"%d" % number) for number in range(10)])
    store.upkeep.drop_notes(3, before_unix_ms=2**62, most=100)
    store.upkeep.drop_notes(99, before_unix_ms=0, most=5)
    with open_journal(path) as journal:
        assert [note.body for note in journal.notes()] == [b"5", b"6", b"7", b"8", b"9"]


def room(left: int) -> Room:
    return Room(spare_bytes=left, growth_bytes=0, low_bytes=100)


def test_pressure_is_told_for_a_while_before_anything_may_go_and_does_not_flicker() -> None:
    gauge = PressureGauge()
    steps = [(100, 0.0), (99, 1.0), (120, 2.0), (99, TELL_S), (99, 1.0 + TELL_S), (150, 30.0)]
    seen = []
    for left, now_s in steps:
        gauge.look(room(left), now_s)
        seen.append((gauge.is_pressed, gauge.may_drop(now_s)))
    assert seen == [
        *[(False, False), (True, False), (True, False), (True, False)],
        *[(True, True), (False, False)],
    ]


def test_pressed_it_asks_others_first_and_then_drops_the_journal_but_no_verdict(
    path: Path,
) -> None:
    store = Store(path, max_mib=1)
    store.commit([draft(number, size=700) for number in range(900)])
    settings = OutboxSettings(path=path, max_mib=1, keep_free_mib=0)
    keeper = Keeper(settings, store.upkeep, store.counters().journal_bytes)
    asked: list[float] = []
    now_s = 0.0
    keeper.on_pressed = lambda: asked.append(now_s)
    keeper.tend(now_s, 0)
    assert (keeper.pressure, asked, len(seqs_in_journal(path))) == ("disk", [0.0], 900)
    while now_s < TELL_S - 1:
        now_s += 1.0
        keeper.tend(now_s, 0)
    assert len(asked) == TELL_S
    assert len(seqs_in_journal(path)) == 900
    made_room = []
    for _ in range(3):
        now_s += 1.0
        made_room.append(keeper.tend(now_s, 0))
    assert made_room == [True, False, False]
    assert keeper.pressure == ""
    assert seqs_in_journal(path) == []
    assert len(store.unsent(0, 9999)) == 900
    store.close()


def test_little_room_on_the_disk_is_pressure_that_the_line_hears(
    path: Path, wait_until: Callable[..., None]
) -> None:
    """More is to be kept free than there is."""
    free_mib = shutil.disk_usage(path.parent).free // 2**20
    outbox = Outbox(OutboxSettings(path=path, keep_free_mib=2 * free_mib))
    told: list[str] = []
    pressed = threading.Event()
    outbox.when_committed(lambda: told.append(outbox.pressure))
    outbox.when_pressed(pressed.set)
    outbox.put(draft(1), stopping=NEVER)
    wait_until(lambda: pressed.is_set() and "disk" in told)
    assert (outbox.pressure, outbox.fault) == ("disk", None)
    # Pressed, it still takes verdicts.
    outbox.put(draft(2), stopping=NEVER)
    assert outbox.flush(10)
    outbox.close()


def test_settings_refuse_what_cannot_be() -> None:
    for key in ("journal_days", "journal_max_mib"):
        with pytest.raises(msgspec.ValidationError, match=key):
            msgspec.convert({key: 0}, OutboxSettings)
    with pytest.raises(msgspec.ValidationError, match="keep_free_mib"):
        msgspec.convert({"keep_free_mib": -1}, OutboxSettings)
