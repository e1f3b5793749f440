"""What is sent next, and when it is too old: without a broker, with clocks of our own."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from memory_spool import MemorySpool, verdict_payload

from lineside.mqtt.expiry import Clocks, ExpiryClock
from lineside.mqtt.flight import Flight, Kind, Sent
from lineside.mqtt.lanes import READ_AHEAD, Lanes

HOUR_MS = 3_600_000.0
NOON_MS = 1_795_000_000_000.0


@dataclass
class TestClocks:
    """Both clocks, that a test may let pass and set."""

    __test__ = False
    monotonic_ms: float = 1_000_000.0
    unix_ms: float = NOON_MS

    def __call__(self) -> Clocks:
        return Clocks(self.monotonic_ms, self.unix_ms)

    def pass_ms(self, ms: float) -> None:
        self.monotonic_ms += ms
        self.unix_ms += ms

    def set_by_ms(self, ms: float) -> None:
        self.unix_ms += ms


def lanes_of(spool: MemorySpool, clocks: TestClocks) -> tuple[Lanes, ExpiryClock, set[int]]:
    in_flight: set[int] = set()
    clock = ExpiryClock(given=spool.given, clocks=clocks)
    return Lanes(spool, clock, is_in_flight=in_flight.__contains__), clock, in_flight


def drain(lanes: Lanes, kind: Kind) -> list[int]:
    found = []
    while True:
        row = lanes.next_live() if kind == "live" else lanes.next_history()
        if row is not None:
            found.append(row.seq)
        elif not (kind == "live" and lanes.passed_over):
            return found


def test_after_an_outage_the_line_hears_the_young_ones_and_history_the_rest() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, _, _ = lanes_of(spool, clocks)
    spool.give(300, expires_unix_ms=int(NOON_MS) + 5_000)
    clocks.pass_ms(10_000)
    spool.give(7, expires_unix_ms=int(clocks.unix_ms) + 5_000)
    assert drain(lanes, "live") == list(range(301, 308))
    assert drain(lanes, "history") == list(range(1, 301))


def test_what_expires_while_it_waits_is_history() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, _, _ = lanes_of(spool, clocks)
    spool.give(10, expires_unix_ms=int(NOON_MS) + 5_000)
    first = lanes.next_live()
    assert first is not None
    assert first.seq == 1
    clocks.pass_ms(6_000)
    assert drain(lanes, "live") == []
    assert lanes.history_waits
    spool.acknowledge([1])
    assert drain(lanes, "history") == list(range(2, 11))


def test_what_was_sent_live_and_lost_is_history_once_expired() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, _, in_flight = lanes_of(spool, clocks)
    spool.give(10, expires_unix_ms=int(NOON_MS) + 5_000)
    assert drain(lanes, "live") == list(range(1, 11))
    in_flight.update(range(1, 11))
    clocks.pass_ms(6_000)
    assert drain(lanes, "history") == []
    in_flight.clear()
    lanes.restart()
    assert drain(lanes, "live") == []
    assert drain(lanes, "history") == list(range(1, 11))


def test_a_row_in_flight_is_not_sent_as_history_beside() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, _, in_flight = lanes_of(spool, clocks)
    spool.give(4, expires_unix_ms=int(NOON_MS) + 5_000)
    assert [row.seq for row in (lanes.next_live(), lanes.next_live()) if row] == [1, 2]
    in_flight.update((1, 2))
    clocks.pass_ms(6_000)
    assert drain(lanes, "live") == []
    first = lanes.next_history()
    assert first is not None
    assert first.seq == 3
    # Acknowledged after history was read ahead: it must not come out of there.
    in_flight.clear()
    spool.acknowledge([1, 2])
    assert drain(lanes, "history") == [4]


@given(st.sampled_from([-HOUR_MS, -60_000.0, 60_000.0, HOUR_MS, 365 * 24 * HOUR_MS]))
def test_a_wall_clock_that_is_set_makes_no_verdict_old_or_young(by_ms: float) -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, clock, _ = lanes_of(spool, clocks)
    spool.give(5, expires_unix_ms=int(clocks.unix_ms) + 5_000)
    clock.observe(spool.given)
    clocks.set_by_ms(by_ms)
    # Given after the clock was set, and before the publisher looked.
    spool.give(5, expires_unix_ms=int(clocks.unix_ms) + 5_000)
    clock.observe(spool.given)
    assert drain(lanes, "live") == list(range(1, 11))
    lanes.restart()
    clocks.pass_ms(4_000)
    clock.observe(spool.given)
    spool.give(2, expires_unix_ms=int(clocks.unix_ms) + 5_000)
    clocks.pass_ms(2_000)
    assert drain(lanes, "live") == [11, 12]
    assert drain(lanes, "history") == list(range(1, 11))


def test_of_an_earlier_process_only_the_wall_clock_is_left() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    spool.give(3, expires_unix_ms=int(NOON_MS) - 1, taken=int(NOON_MS) - 10_000)
    spool.give(3, expires_unix_ms=int(NOON_MS) + 2_000, taken=int(NOON_MS) - 3_000)
    # A device without a battery thinks that it is years ago until it hears of NTP.
    spool.give(2, expires_unix_ms=int(NOON_MS) + 90_000_000, taken=int(NOON_MS) + 80_000_000)
    lanes, _, _ = lanes_of(spool, clocks)
    assert drain(lanes, "live") == [4, 5, 6]
    spool.acknowledge([4, 5, 6])
    assert drain(lanes, "history") == [1, 2, 3, 7, 8]


def test_a_thousand_jumps_are_remembered_in_bounded_memory() -> None:
    clocks = TestClocks()
    clock = ExpiryClock(given=0, clocks=clocks)
    for seq in range(1, 1_001):
        clocks.set_by_ms(-60_000)
        clock.observe(seq)
    assert clock.is_live(1_000, int(clocks.unix_ms) + 5_000, verdict_payload(1_000))
    assert not clock.is_live(1_000, int(clocks.unix_ms) - 5_000, verdict_payload(1_000))
    assert clock.is_live(1, int(clocks.unix_ms) + 5_000, verdict_payload(1))


def test_rows_are_read_in_batches_and_not_asked_for_in_vain() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, _, _ = lanes_of(spool, clocks)
    spool.give(10 * READ_AHEAD)
    assert drain(lanes, "live") == list(range(1, 10 * READ_AHEAD + 1))
    asked = spool.reads
    assert asked <= 11
    assert drain(lanes, "live") == []
    assert spool.reads == asked
    assert not lanes.live_waits
    spool.give(1)
    assert lanes.live_waits
    assert drain(lanes, "live") == [10 * READ_AHEAD + 1]


def test_a_disk_that_cannot_be_read_is_asked_again() -> None:
    spool, clocks = MemorySpool(), TestClocks()
    lanes, _, _ = lanes_of(spool, clocks)
    spool.give(3)
    spool.broken = True
    assert drain(lanes, "live") == drain(lanes, "history") == []
    assert lanes.live_waits
    spool.broken = False
    assert drain(lanes, "live") == [1, 2, 3]


@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.sampled_from(["live", "history", "control", "ack"]), st.booleans())),
)
def test_the_window_is_never_overrun_and_never_stuck(
    window: int, steps: list[tuple[str, bool]]
) -> None:
    flight = Flight(window)
    on_their_way: list[int] = []
    for number, (what, waits) in enumerate(steps):
        room = {
            "live": flight.live_room(history_waits=waits),
            "history": flight.history_room(live_waits=waits),
            "control": flight.control_room(),
        }
        if what == "ack":
            if on_their_way:
                flight.settle([on_their_way.pop(0)])
        elif room[what] > 0:
            kind: Kind = "live" if what == "live" else "history" if what == "history" else "control"
            seq = None if kind == "control" else number
            if seq is not None:
                flight.expect(seq, 1)
            flight.add(number, Sent(since_s=0.0, kind=kind, seq=seq))
            on_their_way.append(number)
        assert len(flight) == len(on_their_way) <= window
        if not on_their_way:
            assert flight.live_room(history_waits=True) > 0
            assert flight.history_room(live_waits=False) > 0
            assert flight.control_room() > 0


def test_history_keeps_to_its_share_and_live_to_the_rest() -> None:
    flight = Flight(20)
    assert flight.live_room(history_waits=False) == 16
    assert flight.live_room(history_waits=True) == 12
    assert flight.history_room(live_waits=True) == 4
    assert flight.control_room() == 4
    for number in range(4):
        flight.expect(number, 1)
        flight.add(number, Sent(since_s=0.0, kind="history", seq=number))
    assert flight.history_room(live_waits=False) == 0
    assert flight.live_room(history_waits=True) == 12


def test_a_verdict_is_acknowledged_when_all_its_messages_are() -> None:
    flight = Flight(20)
    flight.expect(7, 3)
    for number in range(3):
        flight.add(number, Sent(since_s=0.0, kind="live", seq=7))
    assert flight.settle([1, 0]) == []
    assert flight.has_seq(7)
    assert flight.settle([2, 2, 99]) == [7]
    assert not flight.has_seq(7)
    assert flight.oldest_s() is None
