"""The publisher against a real broker: live first, commands, answers, and what guards it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from memory_spool import MemorySpool, verdict_payload
from mosquitto_broker import Mosquitto
from tcp_relay import TcpRelay

from lineside.mqtt import (
    AckMessage,
    Answer,
    ChangeoverCommand,
    Command,
    MqttSettings,
    Publisher,
    StateMessage,
    StateWord,
    StationTopics,
    TriggerCommand,
    VerdictMessage,
    decode_ack,
    decode_state,
    decode_verdict,
)
from lineside.mqtt.binary import pack_verdict, unpack_verdict
from lineside.mqtt.publisher import VERDICT_WINDOW, WINDOW
from lineside.mqtt.state import make_state
from lineside.outbox import Draft, Outbox, OutboxSettings
from lineside.worker import Worker

TOPICS = StationTopics(site="plant1", line="line3", station="aoi1")
PAST_MS = 1_000
QUICK = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.2, "state_interval_s": 1}


@dataclass
class Running:
    """A publisher in its thread."""

    publisher: Publisher
    spool: MemorySpool
    worker: Worker

    def give(self, count: int, **kinds: Any) -> None:
        self.spool.give(count, **kinds)
        self.publisher.wake()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """``start(url, spool, …)`` runs a publisher; the rest goes into its settings."""
    running: list[Running] = []

    def make(
        url: str,
        spool: MemorySpool | None = None,
        *,
        topics: StationTopics = TOPICS,
        handle: Callable[[Command], Answer] | None = None,
        health: Callable[[], bytes] | None = None,
        pack: Callable[[VerdictMessage], bytes] | None = None,
        describe: Callable[[], StateMessage] = lambda: make_state(StateWord.ONLINE),
        **settings: Any,
    ) -> Running:
        spool = spool or MemorySpool()
        publisher = Publisher(
            msgspec.structs.replace(MqttSettings(url=url), **{**QUICK, **settings}),
            topics=topics,
            spool=spool,
            describe=describe,
            handle=handle,
            health=health,
            pack=pack,
        )
        worker = Worker(publisher.run, name="test-publisher")
        running.append(Running(publisher, spool, worker))
        worker.start()
        return running[-1]

    yield make
    for one in running:
        one.publisher.stop(0.0)
        assert one.worker.join(20)


@pytest.fixture
def line(broker: Mosquitto) -> Iterator[paho.Client]:
    """A PLC's client, that commands."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def seqs(ear: Any, kind: str) -> list[int]:
    return [decode_verdict(data, source=kind).seq for data in ear.payloads(kind)]


def acks(ear: Any) -> list[AckMessage]:
    return [decode_ack(data, source="ack") for data in ear.payloads("ack")]


def states(ear: Any) -> list[StateMessage]:
    return [decode_state(data, source="state") for data in ear.payloads("state")]


def test_after_an_outage_live_ones_come_first_and_history_in_order(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    spool = MemorySpool()
    spool.give(500, expires_unix_ms=PAST_MS)
    spool.give(30)
    running = start(broker.url, spool)
    wait_until(lambda: len(ear.payloads("verdict")) == 30)
    running.give(5)
    wait_until(lambda: not spool.waiting)
    # The broker acknowledges what it has passed on; the listener's thread may still be reading it.
    wait_until(lambda: len(ear.messages) >= 535 + len(ear.payloads("state")))
    assert seqs(ear, "verdict") == list(range(501, 536))
    assert seqs(ear, "history") == list(range(1, 501))
    # The same bytes, and neither is kept by the broker.
    assert ear.payloads("history") == [verdict_payload(seq) for seq in range(1, 501)]
    assert not any(retained for topic, _, retained in ear.messages if not topic.endswith("/state"))


def test_history_neither_delays_live_ones_nor_is_starved_by_them(
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    spool = MemorySpool()
    spool.give(100, expires_unix_ms=PAST_MS)
    spool.give(100)
    relay.swallow_pubacks = True
    start(relay.url, spool)
    # Nothing is acknowledged, so what was sent is the window: 4 for state, 4 for history.
    wait_until(lambda: len(ear.payloads("verdict")) == 12 and len(ear.payloads("history")) == 4)
    assert (seqs(ear, "verdict"), seqs(ear, "history")) == (list(range(101, 113)), [1, 2, 3, 4])
    assert relay.unacknowledged_peak <= WINDOW


def test_a_verdict_that_was_sent_live_and_lost_is_history_once_expired(
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    relay.swallow_pubacks = True
    running = start(relay.url)
    running.give(5, expires_unix_ms=time.time_ns() // 1_000_000 + 1_500)
    wait_until(lambda: len(ear.payloads("verdict")) == 5)
    relay.shut()
    time.sleep(1.6)
    relay.swallow_pubacks = False
    relay.open()
    running.give(2)
    wait_until(lambda: not running.spool.waiting)
    wait_until(lambda: len(ear.payloads("verdict")) == 7 and len(ear.payloads("history")) == 5)
    assert seqs(ear, "verdict") == [1, 2, 3, 4, 5, 6, 7]
    assert ear.payloads("history") == ear.payloads("verdict")[:5]


def test_what_breaks_in_between_is_sent_again_in_order_and_nothing_is_lost(
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    spool = MemorySpool()
    spool.give(1_000, expires_unix_ms=PAST_MS)
    running = start(relay.url, spool)
    for _ in range(8):
        running.give(50)
        time.sleep(0.05)
        relay.cut()
    wait_until(lambda: not spool.waiting)
    wait_until(lambda: {1_000, 1_400} <= {*seqs(ear, "history"), *seqs(ear, "verdict")})
    assert set(seqs(ear, "history")) == set(range(1, 1_001))
    assert set(seqs(ear, "verdict")) == set(range(1_001, 1_401))
    assert sorted(spool.acknowledged) == list(range(1, 1_401))
    for kind in ("verdict", "history"):
        # Every step back is a repetition after a reconnection, never a new number.
        heard: set[int] = set()
        for seq in seqs(ear, kind):
            assert seq in heard or seq == max(heard, default=seq - 1) + 1
            heard.add(seq)
    assert relay.unacknowledged_peak <= WINDOW


def test_rows_are_read_in_batches(
    broker: Mosquitto, start: Callable[..., Running], wait_until: Callable[..., None]
) -> None:
    spool = MemorySpool()
    spool.give(5_000)
    start(broker.url, spool)
    wait_until(lambda: not spool.waiting, 60)
    assert spool.reads < 100
    assert spool.acknowledged == list(range(1, 5_001))


@pytest.mark.parametrize("window", [1, 2, 5, 200])
def test_any_window_is_kept_and_reaches_the_end(
    broker: Mosquitto,
    relay: TcpRelay,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
    window: int,
) -> None:
    spool = MemorySpool()
    spool.give(60, expires_unix_ms=PAST_MS)
    spool.give(300, findings=b"{}")
    start(relay.url, spool, window=window)
    wait_until(lambda: not spool.waiting, 30)
    assert relay.unacknowledged_peak <= window


def test_a_verdict_counts_when_its_packed_form_and_findings_are_acknowledged_too(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    spool = MemorySpool()
    spool.give(3, expires_unix_ms=PAST_MS, findings=b'{"old":1}')
    spool.give(3, findings=b'{"findings":[]}')
    spool.give(1)
    start(broker.url, spool, binary=True, pack=pack_verdict)
    wait_until(lambda: not spool.waiting)
    wait_until(lambda: len(ear.messages) >= 4 + 4 + 3 + 3 + len(ear.payloads("state")))
    assert seqs(ear, "verdict") == [4, 5, 6, 7]
    packed = [unpack_verdict(data, source="ear") for data in ear.payloads("verdict/bin")]
    assert packed == [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]
    assert ear.payloads("findings") == [b'{"findings":[]}'] * 3
    assert seqs(ear, "history") == [1, 2, 3]


def test_findings_can_be_switched_off(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    spool = MemorySpool()
    spool.give(3, findings=b"{}")
    start(broker.url, spool, findings=False)
    wait_until(lambda: not spool.waiting)
    wait_until(lambda: len(ear.payloads("verdict")) == 3)
    assert ear.payloads("findings") == []


def test_commands_are_done_and_answered(
    broker: Mosquitto,
    ear: Any,
    line: paho.Client,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    done: list[Command] = []
    then = threading.Event()

    def handle(command: Command) -> Answer:
        done.append(command)
        if isinstance(command, ChangeoverCommand) and command.product != "led":
            return Answer(ok=False, detail=f"no bundle for {command.product}")
        return Answer(ok=True, then=then.set)

    line.publish(TOPICS.command("trigger"), b'{"id":"old","part":"x"}', qos=1, retain=True)
    start(broker.url, handle=handle)
    wait_until(lambda: len(acks(ear)) == 1)
    for name, body in (
        ("trigger", b'{"id":"1","part":"LED-1"}'),
        ("trigger", b'{"id":"1","part":"LED-1"}'),
        ("changeover", b'{"id":"2","product":"other"}'),
        ("trigger", b'{"id":"3","prat":"LED-2"}'),
        ("reboot", b'{"id":"4"}'),
    ):
        line.publish(TOPICS.command(name), body, qos=1)
    wait_until(lambda: len(acks(ear)) == 6)
    told = [(ack.id, ack.cmd, ack.ok) for ack in acks(ear)]
    assert told == [
        ("old", "trigger", False),
        ("1", "trigger", True),
        ("1", "trigger", True),
        ("2", "changeover", False),
        ("3", "trigger", False),
        ("4", "reboot", False),
    ]
    assert done == [
        TriggerCommand(id="1", part="LED-1"),
        ChangeoverCommand(id="2", product="other"),
    ]
    assert "retain" in acks(ear)[0].detail
    assert acks(ear)[3].detail == "no bundle for other"
    wait_until(then.is_set)
    assert not any(retained for topic, _, retained in ear.messages if topic.endswith("/ack"))


def test_the_station_announces_what_it_did_by_itself_before_what_follows(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    running = start(broker.url)
    wait_until(lambda: len(states(ear)) > 0)
    assert running.publisher.tell(cmd="changeover", detail="led, by a trigger").wait(10)
    running.give(1)
    wait_until(lambda: len(ear.payloads("verdict")) == 1)
    kinds = [topic.rpartition("/")[2] for topic, _, _ in ear.messages]
    assert kinds.index("ack") < kinds.index("verdict")
    (ack,) = acks(ear)
    assert (ack.id, ack.cmd, ack.ok, ack.detail) == ("", "changeover", True, "led, by a trigger")


def test_nobody_waits_for_an_announcement_without_a_broker(
    broker: Mosquitto,
    relay: TcpRelay,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    relay.shut()
    running = start(relay.url)
    assert running.publisher.tell(cmd="changeover").wait(0)
    relay.open()
    wait_until(lambda: running.publisher.connection.word == "online")
    relay.stalled = True
    relay.shut()
    assert running.publisher.tell(cmd="changeover").wait(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_raises_ends_the_thread_where_the_station_sees_it(
    broker: Mosquitto,
    ear: Any,
    line: paho.Client,
    wait_until: Callable[..., None],
) -> None:
    # paho's thread would die of it unseen, and go on saying that it is connected.
    def handle(_: Command) -> Answer:
        raise ZeroDivisionError("a fault of ours")

    publisher = Publisher(
        MqttSettings(url=broker.url),
        topics=TOPICS,
        spool=MemorySpool(),
        describe=lambda: make_state(StateWord.ONLINE),
        handle=handle,
    )
    worker = Worker(publisher.run, name="test-publisher")
    worker.start()
    wait_until(lambda: publisher.connection.word == "online" and len(states(ear)) > 0)
    line.publish(TOPICS.command("trigger"), b"{}", qos=1)
    wait_until(lambda: publisher.connection.word == "ended")
    with pytest.raises(ZeroDivisionError):
        worker.join(10)
        worker.check()
    wait_until(lambda: states(ear)[-1].reason == "connection_lost")


def test_health_comes_at_once_and_then_now_and_then(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    start(broker.url, health=lambda: b'{"v":1}', health_interval_s=1)
    wait_until(lambda: len(ear.payloads("health")) >= 2)
    assert set(ear.payloads("health")) == {b'{"v":1}'}
    assert not any(retained for topic, _, retained in ear.messages if topic.endswith("/health"))


def test_states_carry_the_instance_and_what_is_amiss(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    warned = msgspec.structs.replace(make_state(StateWord.ONLINE), warn="drift")
    running = start(broker.url, describe=lambda: warned)
    wait_until(lambda: len(states(ear)) > 0)
    assert (states(ear)[0].warn, states(ear)[0].instance) == ("drift", running.publisher.instance)
    assert len(running.publisher.instance) == 8


def test_two_stations_on_the_same_topics_are_named(
    broker: Mosquitto,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    first = start(broker.url, client_id="one")
    second = start(broker.url, client_id="two")
    pair = (first.publisher, second.publisher)
    wait_until(lambda: all("another station" in one.connection.detail for one in pair))
    assert second.publisher.instance in first.publisher.connection.detail
    assert "plant1/line3/aoi1" in first.publisher.connection.detail
    assert {one.connection.word for one in pair} == {"online"}
    wait_until(lambda: {state.warn for state in states(ear)} >= {"rival"})
    second.publisher.stop(0.0)
    wait_until(lambda: first.publisher.connection.detail == "")


def test_a_state_from_before_is_no_second_station(
    broker: Mosquitto,
    ear: Any,
    line: paho.Client,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    old = msgspec.structs.replace(make_state(StateWord.ONLINE), instance="deadbeef", beat_s=10)
    line.publish(TOPICS.state, msgspec.json.encode(old), qos=1, retain=True).wait_for_publish(10)
    running = start(broker.url)
    wait_until(lambda: len(states(ear)) >= 3)
    assert running.publisher.connection.detail == ""


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_two_stations_with_one_client_id_are_named_and_calm_down(
    broker: Mosquitto,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
    protocol: str,
) -> None:
    other = StationTopics(site="plant1", line="line3", station="aoi2")
    shared = {"client_id": "twin", "protocol": protocol, "reconnect_max_s": 1.0}
    pair = [start(broker.url, **shared), start(broker.url, topics=other, **shared)]
    wait_until(lambda: any("'twin'" in one.publisher.connection.detail for one in pair), 30)
    wait_until(lambda: any(one.publisher.connection.word == "refused" for one in pair), 30)
    # Once they know, they come back once a second, not twenty times; verdicts still go out.
    for one in pair:
        one.give(20)
    wait_until(lambda: not any(one.spool.waiting for one in pair), 30)


def test_a_broker_of_mqtt_5_that_stands_fewer_messages_gets_fewer(
    make_broker: Callable[..., Mosquitto],
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    few = make_broker("max_inflight_messages 5")
    few.start()
    relay = TcpRelay(few.port)
    spool = MemorySpool()
    spool.give(200)
    start(relay.url, spool, protocol="5")
    wait_until(lambda: not spool.waiting)
    relay.close()
    assert relay.unacknowledged_peak <= 5


def test_what_the_broker_does_not_take_and_is_not_needed_is_done_without(
    make_broker: Callable[..., Mosquitto],
    tmp_path: Path,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic write {TOPICS.verdict}\ntopic write {TOPICS.state}\n", "utf-8")
    strict = make_broker(f"acl_file {rules}")
    strict.start()
    running = start(strict.url, protocol="5", health=lambda: b"{}", discovery="homeassistant")
    running.give(30, findings=b"{}")
    wait_until(lambda: not running.spool.waiting)
    for topic in (TOPICS.findings, TOPICS.health, "homeassistant/sensor"):
        wait_until(lambda topic=topic: topic in running.publisher.connection.detail)
    # This mosquitto hangs up at each refusal; each topic is refused once, and then left alone.
    wait_until(lambda: running.publisher.connection.word == "online")
    connects = running.publisher.connection.connects
    running.give(30, findings=b"{}")
    wait_until(lambda: not running.spool.waiting)
    assert running.publisher.connection.connects == connects <= 6


def test_a_verdict_that_the_broker_may_not_take_stays_and_the_topic_is_named(
    make_broker: Callable[..., Mosquitto],
    tmp_path: Path,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic write {TOPICS.state}\n", "utf-8")
    strict = make_broker(f"acl_file {rules}")
    strict.start()
    running = start(strict.url, protocol="5")
    running.give(3)
    wait_until(
        lambda: (
            running.publisher.connection.word == "refused"
            and f"on {TOPICS.verdict} was refused" in running.publisher.connection.detail
        )
    )
    assert running.spool.waiting == [1, 2, 3]


def test_discovery_is_announced_retained(
    broker: Mosquitto, start: Callable[..., Running], wait_until: Callable[..., None]
) -> None:
    heard: dict[str, bytes] = {}
    listener = paho.Client(paho.CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: heard.update({message.topic: message.payload})
    start(broker.url, discovery="homeassistant", discovery_prefix="ha/main")
    listener.connect("127.0.0.1", broker.port)
    listener.subscribe("ha/main/#")
    listener.loop_start()
    wait_until(lambda: len(heard) == 3)
    listener.disconnect()
    listener.loop_stop()
    assert all(json.loads(payload)["unique_id"] for payload in heard.values())


def test_a_half_open_connection_is_left_and_all_is_sent_again(
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    start: Callable[..., Running],
    wait_until: Callable[..., None],
) -> None:
    running = start(relay.url, ack_timeout_s=0.5)
    running.give(10)
    wait_until(lambda: not running.spool.waiting)
    relay.stalled = True
    running.give(10)
    wait_until(lambda: running.publisher.connection.word != "online")
    assert "acknowledged" in running.publisher.connection.detail or (
        running.publisher.connection.word == "connecting"
    )
    relay.stalled = False
    wait_until(lambda: not running.spool.waiting, 30)
    wait_until(lambda: set(seqs(ear, "verdict")) == set(range(1, 21)))


def test_with_the_outbox_itself_live_ones_go_first_and_none_is_lost(
    tmp_path: Path,
    broker: Mosquitto,
    relay: TcpRelay,
    ear: Any,
    wait_until: Callable[..., None],
) -> None:
    outbox = Outbox(OutboxSettings(path=tmp_path / "outbox.sqlite"))
    never = threading.Event()

    def give(count: int, expires_unix_ms: int) -> None:
        for _ in range(count):
            draft = Draft(
                encode=lambda stamp: verdict_payload(stamp.seq), expires_unix_ms=expires_unix_ms
            )
            assert outbox.put(draft, stopping=never)
        assert outbox.flush(20)

    give(600, PAST_MS)
    give(40, 2**53)
    publisher = Publisher(
        msgspec.structs.replace(MqttSettings(url=relay.url), **QUICK),
        topics=TOPICS,
        spool=outbox,
        describe=lambda: make_state(StateWord.ONLINE),
    )
    outbox.when_committed(publisher.wake)
    worker = Worker(publisher.run, name="test-publisher")
    worker.start()
    for _ in range(3):
        time.sleep(0.1)
        relay.cut()
        give(10, 2**53)
    wait_until(lambda: outbox.waiting == 0, 30)
    wait_until(lambda: {600, 670} <= {*seqs(ear, "history"), *seqs(ear, "verdict")})
    publisher.stop(1.0)
    assert worker.join(20)
    outbox.close()
    assert set(seqs(ear, "history")) == set(range(1, 601))
    assert set(seqs(ear, "verdict")) == set(range(601, 671))
    assert len(outbox_left(tmp_path / "outbox.sqlite")) == 0


def outbox_left(path: Path) -> list[int]:
    """What another process would still find to send."""
    outbox = Outbox(OutboxSettings(path=path))
    try:
        return [row.seq for row in outbox.unsent(0, 1_000)]
    finally:
        outbox.close()


def test_the_default_window_is_what_the_documentation_says() -> None:
    assert (WINDOW, VERDICT_WINDOW) == (20, 16)
