"""The publisher's side of signed commands: handed over at once, answered when done; and repeats."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import paho.mqtt.publish
import pytest
from memory_spool import MemorySpool, verdict_payload
from mosquitto_broker import Mosquitto

from lineside.mqtt import (
    Answer,
    Command,
    MqttSettings,
    Publisher,
    Reply,
    StateWord,
    StationTopics,
    decode_ack,
)
from lineside.mqtt.repeats import Repeats
from lineside.mqtt.state import make_state
from lineside.worker import Worker

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")
PAST_MS = 1_000


class Station:
    """A publisher in its thread, whose commands are answered by whoever holds this."""

    def __init__(self, url: str) -> None:
        self.taken: list[tuple[str, bytes, bool]] = []
        self.commands: list[Command] = []
        self.has_room = True
        self.spool = MemorySpool()
        self.publisher = Publisher(
            MqttSettings(url=url, reconnect_min_s=0.05, reconnect_max_s=0.2),
            topics=TOPICS,
            spool=self.spool,
            describe=lambda: make_state(StateWord.ONLINE),
            handle=self.handle,
            remote=self.take,
        )
        self.worker = Worker(self.publisher.run, name="test-publisher")

    def handle(self, command: Command) -> Answer | None:
        self.commands.append(command)
        return None

    def take(self, name: str, payload: bytes, retained: bool) -> bool:
        if self.has_room:
            self.taken.append((name, payload, retained))
        return self.has_room


@pytest.fixture
def station(broker: Mosquitto, ear: Any, wait_until: Callable[..., None]) -> Iterator[Station]:
    made = Station(broker.url)
    made.worker.start()
    wait_until(lambda: ear.payloads("state"))
    yield made
    made.publisher.stop(0.0)
    assert made.worker.join(20)
    made.worker.check()


def publish(broker: Mosquitto, name: str, payload: bytes) -> None:
    paho.mqtt.publish.single(TOPICS.command(name), payload, qos=1, port=broker.port)


def acks(ear: Any) -> list[tuple[str, str, bool, str]]:
    found = [decode_ack(data, source="ear") for data in ear.payloads("ack")]
    return [(one.cmd, one.id, one.ok, one.detail) for one in found]


def test_what_is_signed_is_handed_over_and_answered_from_another_thread(
    station: Station, broker: Mosquitto, ear: Any, wait_until: Callable[..., None]
) -> None:
    publish(broker, "signed", b'{"body":"{\\"id\\":\\"c1\\"}"}')
    publish(broker, "chunk", bytes(range(256)) * 200)
    wait_until(lambda: len(station.taken) == 2)
    assert [(name, len(payload), kept) for name, payload, kept in station.taken] == [
        ("signed", 26, False),
        ("chunk", 51_200, False),
    ]
    reply = Reply(cmd="pause", command_id="c1", answer=Answer(ok=True))
    thread = threading.Thread(target=station.publisher.answer, args=(reply,))
    thread.start()
    thread.join(10)
    wait_until(lambda: acks(ear) == [("pause", "c1", True, "")])


def test_where_there_is_no_room_the_sender_hears_so_with_his_id(
    station: Station, broker: Mosquitto, ear: Any, wait_until: Callable[..., None]
) -> None:
    station.has_room = False
    publish(broker, "signed", b'{"body":"{\\"id\\":\\"c1\\"}"}')
    wait_until(lambda: acks(ear))
    assert acks(ear) == [("signed", "c1", False, "busy: too many wait; say it again later")]


def test_a_command_under_way_is_done_once_and_each_repetition_answered_alike(
    station: Station, broker: Mosquitto, ear: Any, wait_until: Callable[..., None]
) -> None:
    for payload in (b'{"id":"7","product":"b"}', b'{"id":"7","product":"b"}', b'{"id":"8"}'):
        publish(broker, "changeover", payload)
    wait_until(lambda: len(acks(ear)) == 1)
    assert acks(ear)[0][:3] == ("changeover", "8", False), "the others have no answer yet"
    answer = Answer(ok=False, detail="the disk is full")
    station.publisher.answer(Reply(cmd="changeover", command_id="7", answer=answer))
    publish(broker, "changeover", b'{"id":"7","product":"b"}')
    wait_until(lambda: len(acks(ear)) == 3)
    assert acks(ear)[1:] == [("changeover", "7", False, "the disk is full")] * 2
    assert len(station.commands) == 1


def test_repeats_go_out_as_history_beside_all_else_and_count_for_nobody(
    station: Station, ear: Any, wait_until: Callable[..., None]
) -> None:
    payloads = [verdict_payload(seq) for seq in range(1001, 2001)]
    sent = threading.Event()
    assert station.publisher.repeats.offer(payloads, sent.set)
    assert not station.publisher.repeats.offer(payloads, sent.set), "one request at a time"
    station.spool.give(50)
    station.spool.give(50, expires_unix_ms=PAST_MS)
    station.publisher.wake()
    assert sent.wait(20)
    wait_until(lambda: len(station.spool.acknowledged) == 100)
    # All hundred lie before the last expired one or after it; repeats among them, in order.
    heard = [one for one in ear.payloads("history") if one in set(payloads)]
    own = dict.fromkeys(payloads)
    assert list(dict.fromkeys(one for one in heard if one in own))[-900:] == payloads[-900:]
    assert sorted(station.spool.acknowledged) == list(range(1, 101))
    assert station.publisher.repeats.offer(payloads[:1], sent.clear)
    station.publisher.wake()
    wait_until(lambda: not sent.is_set())


def test_what_the_broker_did_not_acknowledge_is_repeated_again(
    station: Station, broker: Mosquitto, ear: Any, wait_until: Callable[..., None]
) -> None:
    broker.kill()
    payloads = [verdict_payload(seq) for seq in range(1, 101)]
    sent = threading.Event()
    assert station.publisher.repeats.offer(payloads, sent.set)
    station.publisher.wake()
    assert not sent.wait(0.2)
    broker.start()
    ear.connect()
    assert sent.wait(20)
    wait_until(lambda: set(ear.payloads("history")) == set(payloads))


def test_only_what_was_not_acknowledged_is_left_after_a_reconnection() -> None:
    repeats, done = Repeats(), []
    repeats.offer([b"1", b"2", b"3"], lambda: done.append(True))
    rows = [repeats.next() for _ in range(4)]
    assert [None if row is None else (row.seq, row.payload) for row in rows] == [
        (-1, b"1"),
        (-2, b"2"),
        (-3, b"3"),
        None,
    ]
    assert repeats.is_busy
    assert not repeats.waits
    repeats.settle([-2, 2, 1])
    repeats.restart()
    left = [repeats.next(), repeats.next()]
    assert [row and row.payload for row in left] == [b"1", b"3"]
    repeats.settle([-1])
    assert done == []
    repeats.settle([-3])
    assert done == [True]
    assert not repeats.is_busy
    repeats.restart()
    assert repeats.next() is None


def test_any_flat_state_is_said_again_when_it_changes(
    broker: Mosquitto, ear: Any, wait_until: Callable[..., None]
) -> None:
    states = [make_state(StateWord.ONLINE)]
    publisher = Publisher(
        MqttSettings(url=broker.url, state_interval_s=60),
        topics=TOPICS,
        spool=MemorySpool(),
        describe=lambda: states[-1],
    )
    worker = Worker(publisher.run, name="test-publisher")
    worker.start()
    wait_until(lambda: len(ear.payloads("state")) == 1)
    states.append(msgspec.structs.replace(states[0], t=5, given=9, queue=9))
    states.append(msgspec.structs.replace(states[0], limits="tightened", ok=0.25))
    publisher.wake()
    wait_until(lambda: len(ear.payloads("state")) == 2)
    assert b'"limits":"tightened"' in ear.payloads("state")[-1]
    publisher.stop(0.0)
    assert worker.join(20)
