"""A receiver of its own, of plain paho and none of our code, so that it can witness against us."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
from account import Delivery
from paho.mqtt.enums import CallbackAPIVersion

VERDICT_KINDS: Final = ("verdict", "history")
_CONNECT_S: Final = 30.0
_STATES_KEPT: Final = 4096


class Witness:
    """Subscribes to all topics of Lineside and keeps every verdict, in order, as bytes.

    Args:
        port: the broker's, on the loopback interface.
        qos: 1 keeps a session at the broker, so that what is published while the witness is away
            waits for it. 0 is for brokers that get killed: mosquitto then hands a message on before
            it acknowledges it, and what it has acknowledged does not die with it.

    Attributes:
        deliveries: verdicts and history.
        states: payloads of the state topic, the last ones.
        answers: payloads of the topic ``ack``, the last ones.
        on_verdict: called in paho's thread with each of them.
    """

    def __init__(self, port: int, *, qos: int = 1) -> None:
        self.deliveries: list[Delivery] = []
        self.states: deque[bytes] = deque(maxlen=_STATES_KEPT)
        self.answers: deque[bytes] = deque(maxlen=_STATES_KEPT)
        self.on_verdict: Callable[[Delivery], None] = lambda _: None
        self._port = port
        self._qos = qos
        self._subscribed = threading.Event()
        self._client: paho.Client | None = None

    def connect(self) -> None:
        """Connect (anew), and wait until the broker has granted the subscription."""
        self.disconnect()
        self._subscribed.clear()
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"witness-{self._port}",
            clean_session=self._qos == 0,
            reconnect_on_failure=False,
        )
        client.on_message = self._hear
        client.on_subscribe = lambda *_: self._subscribed.set()
        self._enter(client)
        client.subscribe("lineside/#", qos=self._qos)
        client.loop_start()
        self._client = client
        assert self._subscribed.wait(_CONNECT_S), "the broker grants no subscription"

    def disconnect(self) -> None:
        """Leave; with QoS 1 the session stays at the broker."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    @property
    def connected(self) -> bool:
        """Whether, as far as this end can see, the connection stands."""
        return self._client is not None and self._client.is_connected()

    def publish(self, topic: str, payload: bytes) -> None:
        """Say something too, with QoS 1; does not wait."""
        assert self._client is not None, "not connected"
        self._client.publish(topic, payload, qos=1)

    def _enter(self, client: paho.Client) -> None:
        deadline_s = time.monotonic() + _CONNECT_S
        while True:
            with contextlib.suppress(OSError):
                client.connect("127.0.0.1", self._port)
                return
            assert time.monotonic() < deadline_s, "the broker does not answer"
            time.sleep(0.05)

    def _hear(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.rpartition("/")[2]
        if kind in VERDICT_KINDS:
            delivery = Delivery(kind, bytes(message.payload))
            self.deliveries.append(delivery)
            self.on_verdict(delivery)
        elif kind == "state":
            self.states.append(bytes(message.payload))
        elif kind == "ack":
            self.answers.append(bytes(message.payload))
