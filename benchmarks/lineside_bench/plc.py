"""A PLC of plain paho and none of our code: it says that a part is there, and hears verdicts."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lineside.errors import BrokerError

_CONNECT_S: Final = 10.0
_HEARD: Final = ("verdict", "history", "state", "ack")


def _send_at_once(_client: paho.Client, _data: Any, sock: Any) -> None:
    # paho leaves Nagle's algorithm on: a trigger then waits up to 40 ms for the broker's word that
    # it has the acknowledgement of a verdict.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Plc:
    """Triggers one station and keeps when each part's verdict came.

    Args:
        port: the broker's, on the loopback interface.
        station: ``lineside/v1/site/line/name``.

    Attributes:
        arrived_ns: by part, when its first verdict came, by `time.perf_counter_ns`.
        reasons: by part, why it was judged so, in a word.
        refused: parts whose trigger the station did not take, and said so.
        seqs: every number heard, repetitions too.
        state: the station's last word of itself.
    """

    def __init__(self, port: int, station: str) -> None:
        self.arrived_ns: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self.refused: set[str] = set()
        self.seqs: list[int] = []
        self.state: dict[str, Any] = {}
        self._port = port
        self._station = station
        self._subscribed = threading.Event()
        # The broker keeps its messages while it is away.
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="plc", clean_session=False
        )
        # A twentieth of a second, whatever paho's types say: what is measured is the station's way
        # back, not the PLC's.
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self._client.on_socket_open = _send_at_once
        self._client.on_message = self._hear
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._subscribed.set()

    def connect(self) -> None:
        """Connect, and wait until the broker has granted the subscription.

        Raises:
            BrokerError: it does not.
        """
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._subscribed.wait(_CONNECT_S):
            raise BrokerError(f"port {self._port}: the broker grants no subscription")

    def trigger(self, part: str) -> None:
        """Tell the station that a part stands there; does not wait."""
        told = json.dumps({"id": part, "part": part})
        self._client.publish(f"{self._station}/cmd/trigger", told, qos=1)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, client: paho.Client, *_: object) -> None:
        client.subscribe([(f"{self._station}/{kind}", 1) for kind in _HEARD])

    def _hear(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        now_ns = time.perf_counter_ns()
        told = json.loads(message.payload) if message.payload else {}
        if message.topic.endswith("/state"):
            self.state = told
            return
        if message.topic.endswith("/ack"):
            if not told["ok"]:
                self.refused.add(told["id"])
            return
        self.seqs.append(told["seq"])
        self.reasons[told["part"]] = told["reason"]
        self.arrived_ns.setdefault(told["part"], now_ns)
