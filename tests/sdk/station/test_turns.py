"""One verdict a turn: claimed once, given way, past its deadline."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.frame import Frame
from lineside.sources import Capture
from lineside.station.backlog import Backlog, Policy
from lineside.station.deadline import DeadlineWatch
from lineside.station.turn import Turn


def turn(
    part_id: str = "p", *, deadline_ms: float | None = None, taken_ns: int | None = None
) -> Turn:
    now_ns = time.monotonic_ns() if taken_ns is None else taken_ns
    frame = Frame(pixels_hwc=np.zeros((4, 4, 1), np.uint8))
    capture = Capture(part_id=part_id, taken_unix_ns=0, taken_ns=now_ns, read_us=0.0, frame=frame)
    return Turn(capture, None, deadline_ms=deadline_ms)


def parts(backlog: Backlog) -> list[str]:
    backlog.close()
    found: list[str] = []
    while (one := backlog.take(0.0)) is not None:
        found.append(one.capture.part_id)
    return found


def test_one_of_many_claims_a_turn() -> None:
    one, claims, ready = turn(), [], threading.Barrier(8)

    def claim() -> None:
        ready.wait()
        claims.append(one.claim())

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == [False] * 7 + [True]
    assert one.ended


def test_the_frame_s_hash_tells_shape_type_and_pixels() -> None:
    pixels = np.arange(48, dtype=np.uint16).reshape(4, 4, 3)
    capture = Capture(
        part_id="", taken_unix_ns=0, taken_ns=0, read_us=0.0, frame=Frame(pixels_hwc=pixels)
    )
    expected = hashlib.sha256(b"(4, 4, 3) <u2 " + pixels.tobytes()).hexdigest()
    assert Turn(capture, None).frame_sha256() == expected
    part = Frame(pixels_hwc=pixels[1:3, 1:3])  # not contiguous
    cut = Turn(Capture(part_id="", taken_unix_ns=0, taken_ns=0, read_us=0.0, frame=part), None)
    again = hashlib.sha256(b"(2, 2, 3) <u2 " + pixels[1:3, 1:3].tobytes()).hexdigest()
    assert cut.frame_sha256() == again
    assert (
        Turn(Capture(part_id="", taken_unix_ns=0, taken_ns=0, read_us=0.0), None).frame_sha256()
        == ""
    )


@pytest.mark.parametrize(
    ("policy", "kept", "gone"),
    [("newest", ["c", "d"], ["a", "b"]), ("oldest", ["a", "b"], ["c", "d"])],
)
def test_who_gives_way(policy: Policy, kept: list[str], gone: list[str]) -> None:
    backlog = Backlog(2, policy)
    gave_way = [backlog.put(turn(name)) for name in "abcd"]
    assert [one.capture.part_id for one in gave_way if one is not None] == gone
    assert backlog.gave_way == 2
    assert parts(backlog) == kept


@given(
    policy=st.sampled_from(["newest", "oldest"]),
    room=st.integers(1, 4),
    steps=st.lists(st.booleans(), max_size=40),
)
def test_every_turn_is_taken_or_gives_way_and_keeps_its_order(
    policy: Policy, room: int, steps: list[bool]
) -> None:
    backlog, put, taken, gone = Backlog(room, policy), [], [], []
    for number, is_put in enumerate(steps):
        if is_put:
            put.append(str(number))
            given_way = backlog.put(turn(str(number)))
            gone += [given_way.capture.part_id] if given_way else []
        else:
            one = backlog.take(0.0)
            taken += [one.capture.part_id] if one else []
        assert len(backlog) <= room
    taken += parts(backlog)
    assert sorted(taken + gone, key=int) == put
    assert taken == sorted(taken, key=int)
    assert backlog.gave_way == len(gone)


def test_block_lets_the_source_wait_until_there_is_room() -> None:
    backlog, stopping, went_on = Backlog(1, "block"), threading.Event(), threading.Event()
    assert backlog.put(turn("a")) is None

    def wait() -> None:
        backlog.wait_for_room(stopping)
        went_on.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not went_on.wait(0.1)
    assert backlog.take(0.0) is not None
    assert went_on.wait(10)
    assert (backlog.waited, backlog.gave_way) == (1, 0)
    backlog.put(turn("b"))
    stopping.set()
    backlog.wait_for_room(stopping)  # a station that ends does not wait


@pytest.fixture
def watch() -> Iterator[Callable[..., tuple[DeadlineWatch, list[tuple[str, int]]]]]:
    made: list[DeadlineWatch] = []

    def make(lead_ms: float = 0.0) -> tuple[DeadlineWatch, list[tuple[str, int]]]:
        expired: list[tuple[str, int]] = []

        def expire(one: Turn) -> None:
            if one.claim():
                expired.append((one.capture.part_id, time.monotonic_ns()))

        made.append(DeadlineWatch(expire, lead_ms=lead_ms))
        made[-1].start()
        return made[-1], expired

    yield make
    for one in made:
        one.stop(10)


def test_turns_expire_in_the_order_of_their_deadlines_and_never_early(
    watch: Callable[..., tuple[DeadlineWatch, list[tuple[str, int]]]],
    wait_until: Callable[..., None],
) -> None:
    watching, expired = watch()
    turns = {ms: turn(f"{ms}", deadline_ms=ms) for ms in (150, 50, 100)}
    done = turn("done", deadline_ms=70)
    for one in (*turns.values(), done, turn("patient")):
        watching.add(one)
    assert done.claim()
    wait_until(lambda: len(expired) == 3)
    assert [part for part, _ in expired] == ["50", "100", "150"]
    for part, at_ns in expired:
        deadline_ns = turns[int(part)].deadline_ns
        assert deadline_ns is not None
        assert at_ns >= deadline_ns


def test_the_lead_is_given_to_storing_and_sending(
    watch: Callable[..., tuple[DeadlineWatch, list[tuple[str, int]]]],
    wait_until: Callable[..., None],
) -> None:
    watching, expired = watch(lead_ms=60_000.0)
    watching.add(turn("soon", deadline_ms=60_050.0))
    wait_until(lambda: len(expired) == 1, 30.0)  # long before the deadline itself


def test_a_turn_that_comes_too_late_expires_at_once(
    watch: Callable[..., tuple[DeadlineWatch, list[tuple[str, int]]]],
    wait_until: Callable[..., None],
) -> None:
    watching, expired = watch()
    watching.add(turn("far", deadline_ms=3_600_000.0))
    watching.add(turn("old", deadline_ms=1.0, taken_ns=0))
    wait_until(lambda: [part for part, _ in expired] == ["old"])
