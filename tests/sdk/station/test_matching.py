"""Trigger → frame → part id: each trigger one capture, and the right one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lineside.sources import Capture, Trigger, trigger_now
from lineside.sources.acquired import Acquired
from lineside.sources.file_matching import Arrival, FileMatcher
from lineside.sources.frame_matching import FrameMatcher
from lineside.sources.outcome import Outcome
from lineside.sources.supply import without_frame
from lineside.sources.triggered import TriggeredSource

BLANK = np.zeros((1, 1), np.uint8)
TIMEOUT, DELAY, RING, MOST = 50, 10, 4, 3
FILE_TIMEOUT = 80


def acquired(at_ns: int) -> Acquired:
    return Acquired(pixels=BLANK, source="x", at_unix_ns=at_ns, at_ns=at_ns)


def trigger(part_id: str, at_ns: int) -> Trigger:
    return Trigger(part_id=part_id, at_unix_ns=at_ns, at_ns=at_ns)


class CameraRule(RuleBasedStateMachine):
    """Against a model that remembers everything and searches it from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.matcher = FrameMatcher(
            delay_ns=DELAY, timeout_ns=TIMEOUT, most_waiting=MOST, ring=RING
        )
        self.now = 0
        self.frames: list[Acquired] = []
        self.triggers: dict[str, Trigger] = {}
        self.outcomes: dict[str, Outcome[Acquired]] = {}

    def take(self, outcomes: list[Outcome[Acquired]]) -> None:
        for outcome in outcomes:
            assert outcome.trigger is not None
            assert (outcome.found is None) != (outcome.fault is None)
            assert outcome.trigger.part_id not in self.outcomes, "two outcomes of one trigger"
            self.outcomes[outcome.trigger.part_id] = outcome

    @rule(by=st.integers(1, 30))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(heard_before=st.integers(0, 25))
    def trigger(self, heard_before: int) -> None:
        made = trigger(f"P{len(self.triggers)}", self.now - heard_before)
        self.triggers[made.part_id] = made
        full = self.matcher.waiting == MOST
        outcomes = self.matcher.trigger(made)
        self.take(outcomes)
        if full:
            assert len(outcomes) == 1

    @rule()
    def frame(self) -> None:
        self.now += 1
        self.frames.append(acquired(self.now))
        self.take(self.matcher.arrived(self.frames[-1]))

    @rule()
    def tick(self) -> None:
        self.take(self.matcher.tick(self.now))
        for made in self.triggers.values():
            assert made.part_id in self.outcomes or made.at_ns + TIMEOUT >= self.now

    @precondition(lambda self: self.matcher.waiting)
    @rule()
    def wake_when_due(self) -> None:
        due = self.matcher.next_due_ns
        assert due is not None
        self.now = max(self.now, due + 1)
        before = self.matcher.waiting
        self.take(self.matcher.tick(self.now))
        assert self.matcher.waiting < before

    @invariant()
    def bounded_and_nothing_lost(self) -> None:
        assert self.matcher.waiting <= MOST
        assert len(self.triggers) - len(self.outcomes) == self.matcher.waiting

    @invariant()
    def the_first_frame_at_or_after_is_the_one(self) -> None:
        for outcome in self.outcomes.values():
            made = outcome.trigger
            assert made is not None
            wanted = made.at_ns + DELAY
            right = next((one for one in self.frames if one.at_ns >= wanted), None)
            if outcome.found is not None:
                assert outcome.found is right
                assert outcome.found.at_ns <= made.at_ns + TIMEOUT
            elif outcome.fault is not None and "within" in str(outcome.fault):
                assert right is None or right.at_ns > made.at_ns + TIMEOUT
            elif outcome.fault is not None:
                assert outcome.fault.reason in ("overload", "frame_missing")

    def teardown(self) -> None:
        self.take(self.matcher.give_up("over"))
        assert set(self.outcomes) == set(self.triggers)
        assert self.matcher.waiting == 0


TestCameraRule = CameraRule.TestCase
TestCameraRule.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class FolderRule(RuleBasedStateMachine):
    """Each file and each trigger comes out once; what belongs together, together."""

    match = "part"

    def __init__(self) -> None:
        super().__init__()
        self.matcher = FileMatcher(
            match=self.match,  # type: ignore[arg-type]
            frame_timeout_ns=TIMEOUT,
            part_timeout_ns=FILE_TIMEOUT,
            most_waiting=MOST,
        )
        self.now = 0
        self.triggers: list[Trigger] = []
        self.ticked = 0
        self.files: list[Arrival] = []
        self.outcomes: list[Outcome[Arrival]] = []

    def take(self, outcomes: list[Outcome[Arrival]]) -> None:
        for outcome in outcomes:
            paired = outcome.trigger is not None and outcome.found is not None
            assert paired == (outcome.fault is None)
            # Either may come late, until a tick has said that the time is over.
            assert not paired or self.ticked <= min(
                outcome.trigger.at_ns + TIMEOUT, outcome.found.at_ns + FILE_TIMEOUT
            )
            self.outcomes.append(outcome)

    @rule(by=st.integers(1, 30))
    def time_passes(self, by: int) -> None:
        self.now += by
        self.tick()

    def tick(self) -> None:
        self.take(self.matcher.tick(self.now))
        self.ticked = self.now

    @rule(part=st.sampled_from(["", "A", "B", "C"]))
    def trigger(self, part: str) -> None:
        self.now += 1
        self.triggers.append(trigger(part, self.now))
        self.take(self.matcher.trigger(self.triggers[-1]))

    @rule(part=st.sampled_from(["", "A", "B", "C"]), old=st.booleans())
    def file(self, part: str, old: bool) -> None:
        self.now += 1
        made = Arrival(
            name=f"{len(self.files)}-{part}.png",
            part_id=part,
            at_unix_ns=self.now,
            at_ns=self.now,
            old=old,
        )
        self.files.append(made)
        self.take(self.matcher.arrived(made))

    @rule()
    def a_file_that_waits_is_seen_again(self) -> None:
        gone = {outcome.found.name for outcome in self.outcomes if outcome.found}
        for file in [one for one in self.files if one.name not in gone]:
            assert self.matcher.arrived(file) == []

    @precondition(lambda self: self.matcher.next_due_ns is not None)
    @rule()
    def wake_when_due(self) -> None:
        due = self.matcher.next_due_ns
        assert due is not None
        self.now = max(self.now, due + 1)
        before = len(self.outcomes)
        self.tick()
        assert len(self.outcomes) > before

    @invariant()
    def once_each(self) -> None:
        names = [outcome.found.name for outcome in self.outcomes if outcome.found]
        moments = [outcome.trigger.at_ns for outcome in self.outcomes if outcome.trigger]
        assert len(names) == len(set(names))
        assert len(moments) == len(set(moments))
        assert len(self.triggers) - len(moments) == self.matcher.waiting <= MOST

    @invariant()
    def what_belongs_together(self) -> None:
        for outcome in self.outcomes:
            if outcome.trigger is None or outcome.found is None:
                continue
            if self.match == "part":
                assert outcome.trigger.part_id == outcome.found.part_id != ""
            else:
                assert not outcome.found.old

    @invariant()
    def nobody_waits_for_one_who_is_there(self) -> None:
        gone = {outcome.found.name for outcome in self.outcomes if outcome.found}
        heard = {outcome.trigger.at_ns for outcome in self.outcomes if outcome.trigger}
        files = {one.part_id for one in self.files if one.name not in gone}
        triggers = {one.part_id for one in self.triggers if one.at_ns not in heard}
        if self.match == "part":
            assert not files & triggers
        else:
            assert not (files and triggers)

    def teardown(self) -> None:
        self.take(self.matcher.give_up("over"))
        self.once_each()
        assert self.matcher.waiting == 0


class NextFileRule(FolderRule):
    match = "next"


TestFolderRule = FolderRule.TestCase
TestNextFileRule = NextFileRule.TestCase
TestFolderRule.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestNextFileRule.settings = TestFolderRule.settings


def test_pairs_keep_their_order() -> None:
    matcher = FileMatcher(
        match="next", frame_timeout_ns=TIMEOUT, part_timeout_ns=FILE_TIMEOUT, most_waiting=8
    )
    pairs = []
    for number in range(5):
        pairs += matcher.trigger(trigger(f"P{number}", number))
    for number in range(5):
        file = Arrival(name=f"{number}.png", part_id="", at_unix_ns=10, at_ns=10)
        pairs += matcher.arrived(file)
    assert [
        (one.trigger.part_id, one.found.name) for one in pairs if one.trigger and one.found
    ] == [(f"P{number}", f"{number}.png") for number in range(5)]


def test_a_frame_that_has_left_the_ring_is_not_replaced_by_a_later_one() -> None:
    matcher = FrameMatcher(delay_ns=0, timeout_ns=1000, most_waiting=MOST, ring=2)
    for at_ns in (10, 20, 30):
        matcher.arrived(acquired(at_ns))
    [late] = matcher.trigger(trigger("late", 5))
    assert late.fault is not None
    assert late.fault.reason == "frame_missing"
    assert "source.ring" in str(late.fault)
    [just] = matcher.trigger(trigger("just", 11))
    assert just.found is not None
    assert just.found.at_ns == 20


def test_a_negative_delay_looks_back() -> None:
    matcher = FrameMatcher(delay_ns=-15, timeout_ns=1000, most_waiting=MOST, ring=4)
    for at_ns in (10, 20, 30):
        matcher.arrived(acquired(at_ns))
    [found] = matcher.trigger(trigger("P", 31))
    assert found.found is not None
    assert found.found.at_ns == 20


class Pictures:
    """A supply that a test feeds."""

    identity = "test:"
    passed_over = 0
    fault = "the cable is out"
    warn = ""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.deliver: Callable[[Acquired], None] = lambda _: None

    def start(self, deliver: Callable[[Acquired], None]) -> None:
        self.deliver = deliver

    def look(self) -> float:
        return 0.05

    def develop(self, outcome: Outcome[Acquired]) -> Capture:
        return without_frame(outcome)

    def is_gone(self, name: bytes) -> bool:
        return True

    def close(self) -> None:
        pass


def triggered(
    pictures: Pictures, *, timeout_ms: int, most_waiting: int
) -> TriggeredSource[Acquired]:
    rule = FrameMatcher(
        delay_ns=0, timeout_ns=timeout_ms * 1_000_000, most_waiting=most_waiting, ring=4
    )
    return TriggeredSource(pictures, rule, most_waiting=most_waiting)


def test_many_who_trigger_at_once_get_one_capture_for_each_trigger_that_was_taken() -> None:
    pictures = Pictures()
    source = triggered(pictures, timeout_ms=30, most_waiting=5)
    stopping = threading.Event()
    captures: list[Capture] = []

    def take() -> None:
        captures.extend(one for one in source.captures(stopping) if one is not None)

    taker = threading.Thread(target=take)
    taker.start()
    taken: list[str] = []

    def offer(name: str) -> None:
        for number in range(60):
            if source.offer(trigger_now(f"{name}{number}")):
                taken.append(f"{name}{number}")
            if number % 3 == 0:
                pictures.deliver(acquired(time.monotonic_ns()))
            time.sleep(0.001)

    threads = [threading.Thread(target=offer, args=(name,)) for name in "ABC"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    stopping.set()
    taker.join(10)
    assert sorted(capture.part_id for capture in captures) == sorted(taken)
    assert len(taken) > 20
    assert source.counts["triggers"] == len(taken)
    assert source.counts["triggers_refused"] == 180 - len(taken)


def test_while_nobody_takes_captures_memory_stays_bounded() -> None:
    source = triggered(Pictures(), timeout_ms=1, most_waiting=5)
    captures = source.captures(threading.Event())
    assert next(captures) is None
    answers = [source.offer(trigger_now(f"P{number}")) for number in range(1000)]
    # Five wait for a frame, five results wait to be taken.
    assert answers == [True] * 10 + [False] * 990
    found = [next(captures) for _ in range(10)]
    assert [one.part_id for one in found if one] == [
        f"P{number}" for number in (5, 6, 7, 8, 9, 0, 1, 2, 3, 4)
    ]
    reasons = [one.fault.reason for one in found if one and one.fault]
    assert reasons == ["overload"] * 5 + ["frame_missing"] * 5
    assert source.offer(trigger_now("P"))
    source.close()
    assert not source.offer(trigger_now("P"))


@pytest.mark.parametrize("stopped", [True, False])
def test_nothing_comes_at_least_once_a_second(stopped: bool) -> None:
    source = triggered(Pictures(), timeout_ms=60_000, most_waiting=5)
    stopping = threading.Event()
    captures = source.captures(stopping)
    started_s = time.monotonic()
    assert [next(captures) for _ in range(3)] == [None] * 3
    assert time.monotonic() - started_s < 3
    if stopped:
        source.offer(trigger_now("P"))
        stopping.set()
        [last] = list(captures)
        assert last is not None
        assert "the station stops" in str(last.fault)
