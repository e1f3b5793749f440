"""The fault scripts of benchmarks/faults, a few times each: a real station, killed and cut off."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from account import Delivery, take_account
from broker_faults import FAULTS, suffer
from clock_jump import ShiftedClock, jump_often
from line import Line, Outcome, open_line
from mosquitto_broker import Mosquitto
from station_killed import kill_often
from tcp_relay import TcpRelay
from tiny_bundle import TinyBundle
from torn_page import damage_once, flip_bit, scribble, tear
from witness import Witness

from lineside.mqtt import encode_verdict, message_of
from lineside.verdict import Evaluation, Reason, Verdict


@pytest.fixture
def make_line(tmp_path: Path, tiny_bundle: TinyBundle) -> Iterator[Callable[..., Line]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Line:
            folder = tmp_path / "line"
            folder.mkdir()
            return stack.enter_context(open_line(folder, tiny_bundle, **settings))

        yield make


def assert_kept(outcome: Outcome) -> None:
    assert outcome.faults == []
    assert outcome.received == outcome.given > 0


def test_kill_9_at_random_moments_loses_and_doubles_nothing(make_line: Callable[..., Line]) -> None:
    outcome = kill_often(make_line(), 5, random.Random(1))
    assert_kept(outcome)
    assert outcome.station_starts == 6


@pytest.mark.parametrize(
    ("case", "qos"),
    [("broker killed", 0), ("half-open", 1), ("PUBACK swallowed", 1), ("torn packet", 1)],
)
def test_a_broker_at_fault_loses_and_doubles_nothing(
    make_line: Callable[..., Line], case: str, qos: int
) -> None:
    outcome = suffer(make_line(qos=qos), FAULTS[case], 1, random.Random(2))
    assert_kept(outcome)
    assert outcome.connections >= 2


def test_a_clock_that_jumps_loses_nothing_and_new_parts_are_live_at_once(
    make_line: Callable[..., Line], tmp_path: Path
) -> None:
    clock = ShiftedClock(tmp_path)
    assert_kept(jump_often(make_line(environment=clock.environment), clock, 1, random.Random(3)))
    clock.close()


@pytest.mark.parametrize(
    ("damage", "in_log"),
    [(flip_bit, True), (tear, True), (flip_bit, False), (scribble, False)],
    ids=["bit-log", "page-log", "bit-file", "bytes-file"],
)
def test_bytes_that_change_in_the_outbox_are_never_a_loss_in_silence(
    make_line: Callable[..., Line], in_log: bool, damage: Any
) -> None:
    line = make_line()
    answer, outcome = damage_once(line, in_log=in_log, damage=damage, chance=random.Random(4))
    assert outcome.faults == []
    assert answer in ("recovered", "judged again", "refused", "told")


def payload(seq: int, *, part: str, score: float = 0.5, origin: str = "0a0b0c0d") -> bytes:
    verdict = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT, score=score)
    job_id = f"{origin}{seq:010x}"
    return encode_verdict(
        message_of(
            verdict, seq=seq, job_id=job_id, part_id=part, taken_unix_ns=0, expires_unix_ms=1
        )
    )


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        ([(1, "a", {}), (3, "c", {})], "never received"),
        ([(1, "a", {}), (2, "b", {}), (3, "c", {}), (4, "d", {})], "does not know"),
        ([(1, "a", {}), (1, "a", {"score": 0.6}), (2, "b", {}), (3, "c", {})], "two contents"),
        ([(1, "a", {}), (2, "b", {}), (2, "b", {"origin": "f" * 8}), (3, "c", {})], "two ids"),
        ([(2, "b", {}), (1, "a", {}), (3, "c", {})], "out of order on verdict"),
        ([(1, "a", {}), (2, "b", {}), (3, "b", {})], "parts without a verdict"),
        ([(1, "a", {}), (2, "b", {}), (3, "b", {})], "parts with two verdicts"),
        ([(1, "a", {}), (2, "b", {}), (3, "x", {})], "never presented"),
        ([(1, "a", {}), (2, "b", {}), (3, "c", {})], "bad parts called OK: c"),
    ],
)
def test_the_account_finds_every_kind_of_fault(heard: list[Any], words: str) -> None:
    deliveries = [Delivery("verdict", payload(seq, part=part, **odd)) for seq, part, odd in heard]
    account = take_account(deliveries, given=3, parts=["a", "b", "c"], bad={"c"})
    assert any(words in fault for fault in account.faults), account.faults


def test_the_account_finds_what_is_no_verdict() -> None:
    account = take_account([Delivery("verdict", b"{")], given=0, parts=[])
    assert account.faults == ["1 deliveries that are no verdict: b'{'"]


def test_the_account_lets_repeated_deliveries_and_the_other_topic_pass() -> None:
    first, second, third = (payload(number, part=f"p{number}") for number in (1, 2, 3))
    came = [("verdict", first), ("verdict", third), ("verdict", first), ("history", second)]
    deliveries = [Delivery(kind, data) for kind, data in came]
    account = take_account(deliveries, given=3, parts=["p1", "p2", "p3"])
    assert account.faults == []
    assert (account.distinct, account.repeated) == (3, 1)


def test_the_relay_makes_silence_without_fin_and_lets_new_ones_in(
    broker: Mosquitto, relay: TcpRelay, wait_until: Callable[..., None]
) -> None:
    ear, witness = Witness(broker.port), Witness(relay.port)
    ear.connect()
    witness.connect()
    relay.vanish()
    assert witness.connected
    witness.publish("lineside/v1/a/b/c/verdict", b"into the void")
    other = Witness(relay.port)
    other.connect()
    other.publish("lineside/v1/a/b/c/verdict", b"through")
    wait_until(lambda: len(ear.deliveries) == 1)
    assert ear.deliveries == [Delivery("verdict", b"through")]
    assert witness.connected
    assert witness.deliveries == []
    for one in (ear, witness, other):
        one.disconnect()
