"""The faults of paho 2.2 that our own window, thread and connection are there for.

Each is shown on plain paho first: where a newer paho has cured one, the test says so by failing,
and the guard may go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from memory_spool import MemorySpool
from mosquitto_broker import Mosquitto, free_port
from tcp_relay import TcpRelay

from lineside.errors import BrokerError
from lineside.mqtt import Link, Message, MqttSettings, Publisher, StateWord, StationTopics
from lineside.mqtt.publisher import WINDOW
from lineside.mqtt.state import make_state
from lineside.mqtt.wake import Wake
from lineside.worker import Worker

TOPICS = StationTopics(site="s", line="l", station="p")


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    made.close()


def plain_client(port: int) -> paho.Client:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(5)
    client.reconnect_delay_set(1, 1)
    client.connect_async("127.0.0.1", port)
    return client


def publisher_of(url: str, spool: MemorySpool) -> tuple[Publisher, Worker]:
    publisher = Publisher(
        MqttSettings(url=url, reconnect_min_s=0.05, reconnect_max_s=0.2, ack_timeout_s=0.5),
        topics=TOPICS,
        spool=spool,
        describe=lambda: make_state(StateWord.ONLINE),
    )
    worker = Worker(publisher.run, name="test-publisher")
    worker.start()
    return publisher, worker


def test_paho_floods_at_reconnect_and_our_window_does_not(
    broker: Mosquitto, relay: TcpRelay, wait_until: Callable[..., None]
) -> None:
    client = plain_client(relay.port)
    for _ in range(100):
        client.publish("lineside/flood", b"x", qos=1)
    relay.swallow_pubacks = True
    client.loop_start()
    wait_until(lambda: relay.unacknowledged_peak == 100)
    relay.swallow_pubacks = False
    relay.cut()
    client.disconnect()
    client.loop_stop()

    ours = TcpRelay(broker.port)
    ours.swallow_pubacks = True
    spool = MemorySpool()
    spool.give(100)
    publisher, worker = publisher_of(ours.url, spool)
    wait_until(lambda: ours.connections >= 3)
    ours.swallow_pubacks = False
    wait_until(lambda: not spool.waiting)
    publisher.stop(0.0)
    assert worker.join(10)
    ours.close()
    assert ours.unacknowledged_peak <= WINDOW


def test_paho_calls_a_message_an_error_that_it_sends_later_and_a_link_never_does(
    broker: Mosquitto, relay: TcpRelay, ear: Any, wake: Wake, wait_until: Callable[..., None]
) -> None:
    client = plain_client(broker.port)
    info = client.publish("lineside/queued", b"x", qos=1)
    assert info.rc == paho.MQTT_ERR_NO_CONN
    client.loop_start()
    wait_until(lambda: ear.payloads("queued") == [b"x"])
    client.disconnect()
    client.loop_stop()

    link = Link(MqttSettings(url=relay.url), client_id="x", wake=wake)
    relay.cut()
    with pytest.raises(BrokerError):
        for _ in range(50):
            link.step(0.1)
    with pytest.raises(BrokerError):
        link.publish(Message(topic="lineside/late", payload=b"x"))
    link.close()
    with Link(MqttSettings(url=broker.url), client_id="x", wake=wake) as again:
        number = again.publish(Message(topic="lineside/after", payload=b"x"))
        while number not in again.step(1.0):
            pass
    wait_until(lambda: ear.payloads("after") == [b"x"])
    assert ear.payloads("late") == []


def test_paho_hangs_in_loop_stop_and_our_publisher_ends(
    broker: Mosquitto, relay: TcpRelay, wait_until: Callable[..., None]
) -> None:
    relay.swallow_pubacks = True
    client = plain_client(relay.port)
    client.loop_start()
    wait_until(client.is_connected)
    client.publish("lineside/hang", b"x", qos=1)
    wait_until(lambda: relay.unacknowledged_peak == 1)
    stopper = threading.Thread(target=client.loop_stop, daemon=True)
    stopper.start()
    stopper.join(1.5)
    assert stopper.is_alive()
    # Cut and shut out: only so does its thread come to an end.
    relay.shut()
    stopper.join(15)
    assert not stopper.is_alive()

    relay.open()
    spool = MemorySpool()
    spool.give(5)
    publisher, worker = publisher_of(relay.url, spool)
    wait_until(lambda: publisher.connection.word == "online")
    publisher.stop(0.0)
    assert worker.join(10)
    assert spool.waiting == [1, 2, 3, 4, 5]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_paho_dies_unseen_of_an_exception_and_we_hear_of_it(
    broker: Mosquitto, wait_until: Callable[..., None]
) -> None:
    client = plain_client(broker.port)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    client.on_message = broken
    client.on_connect = lambda *_: client.subscribe("lineside/#")
    granted = threading.Event()
    client.on_subscribe = lambda *_: granted.set()
    before = set(threading.enumerate())
    client.loop_start()
    (thread,) = set(threading.enumerate()) - before
    assert granted.wait(10)
    client.publish("lineside/x", b"x", qos=1)
    thread.join(10)
    assert not thread.is_alive()
    assert client.is_connected()

    spool = MemorySpool()
    spool.give(1)

    def torn(_: object) -> None:
        raise ZeroDivisionError

    spool.acknowledge = torn  # type: ignore[method-assign,assignment]
    publisher, worker = publisher_of(broker.url, spool)
    wait_until(lambda: publisher.connection.word == "ended")
    with pytest.raises(ZeroDivisionError):
        worker.join(10)
        worker.check()


def test_an_exception_in_a_callback_cannot_happen_to_us(wake: Wake, broker: Mosquitto) -> None:
    # What our callbacks hear they only note; whatever the handler of a command raises comes out of
    # `Publisher.run`, never out of the middle of a packet.
    with Link(MqttSettings(url=broker.url), client_id="x", wake=wake) as link:
        link.subscribe(["lineside/#"])
        link.publish(Message(topic="lineside/x", payload=b"\xff" * 100))
        deadline_s = time.monotonic() + 10
        heard: list[Message] = []
        while not heard and time.monotonic() < deadline_s:
            link.step(0.2)
            heard = link.received()
        assert [message.payload for message in heard] == [b"\xff" * 100]


def test_a_broker_that_is_away_costs_no_thread_and_no_time_to_end() -> None:
    spool = MemorySpool()
    spool.give(5)
    publisher, worker = publisher_of(f"mqtt://127.0.0.1:{free_port()}", spool)
    publisher.stop(0.0)
    assert worker.join(10)
