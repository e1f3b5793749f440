"""What paho calls during one connection. It only notes: whatever else it did could raise, in there.

An exception in a callback of paho 2.2 ends its reading in the middle of a packet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

# MQTT 5, section 3.14.2.1: another client came with our client id.
_TAKEN_OVER = 0x8E
# MQTT 5, section 3.2.2.3.3: as many as a packet's number can tell apart.
_RECEIVE_MAXIMUM = 65_535


@dataclass(frozen=True, kw_only=True)
class Message:
    """One MQTT message; always sent with QoS 1.

    ``optional``: when the broker says that it may not take it, that is no reason to hang up.
    """

    topic: str
    payload: bytes
    retain: bool = False
    optional: bool = False


class Callbacks:
    """The notes of one connection.

    Attributes:
        let_in: the broker has accepted the connection.
        subscribed: it has granted a subscription.
        refusal: what it refused, so that the connection is of no use.
        gone_without: subscriptions that it refused and that are not needed.
        refused_topics: the same for messages: why, by topic.
        error: what paho or the broker said last about the connection's end.
        taken_over: the broker ended it because of another client with our id.
        receive_maximum: messages without acknowledgement that it stands.
    """

    def __init__(self, client: paho.Client) -> None:
        self.let_in = False
        self.subscribed = False
        self.refusal: str | None = None
        self.gone_without: tuple[str, ...] = ()
        self.refused_topics: dict[str, str] = {}
        self.error = ""
        self.taken_over = False
        self.receive_maximum = _RECEIVE_MAXIMUM
        self._acknowledged: deque[int] = deque()
        self._received: deque[Message] = deque()
        self._sent: dict[int, Message] = {}
        self._asked: dict[int, tuple[str, ...]] = {}
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log

    def sent(self, number: int, message: Message) -> None:
        """A message has left; a refusal can then be told by its topic."""
        self._sent[number] = message

    def asked(self, number: int, filters: Sequence[str]) -> None:
        """These subscriptions need not be granted."""
        self._asked[number] = tuple(filters)

    def take_acknowledged(self) -> list[int]:
        """The numbers that were acknowledged since."""
        found = list(self._acknowledged)
        self._acknowledged.clear()
        return found

    def take_received(self) -> list[Message]:
        """What has come since."""
        found = list(self._received)
        self._received.clear()
        return found

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
        else:
            self.let_in = True
            self.receive_maximum = getattr(properties, "ReceiveMaximum", _RECEIVE_MAXIMUM)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.taken_over = reason.value == _TAKEN_OVER
            self.error = f"the broker hung up: {reason}"

    def _on_log(self, _client: paho.Client, _data: object, level: int, words: str) -> None:
        # The only place where paho tells what TLS has said after the handshake.
        if level == paho.MQTT_LOG_ERR and not self.error:
            self.error = words.removeprefix("failed to receive on socket: ")

    def _on_publish(
        self,
        _client: paho.Client,
        _data: object,
        number: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        message = self._sent.pop(number, None)
        if not reason.is_failure:
            self._acknowledged.append(number)
            return
        # MQTT 5 (section 3.4.2.1) acknowledges with an error what the broker has thrown away.
        topic = "" if message is None else f" on {message.topic}"
        words = f"a message{topic} was refused: {reason}"
        if message is not None and message.optional:
            self.refused_topics[message.topic] = words
            self._acknowledged.append(number)
        else:
            self.refusal = words

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        # A broker with access rules answers SUBACK with a failure and then stays silent for ever.
        filters = self._asked.pop(number, None)
        refused = [(i, reason) for i, reason in enumerate(reasons) if reason.is_failure]
        if refused and filters is None:
            self.refusal = f"the subscription was refused: {refused[0][1]}"
            return
        for i, reason in refused:
            if filters is not None and i < len(filters):
                words = f"the subscription of {filters[i]} was refused: {reason}"
                self.gone_without += (words,)
        self.subscribed = True

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # MQTT 3.1.1, section 1.5.3: no broker may pass on such a topic
        self._received.append(
            Message(topic=topic, payload=bytes(message.payload), retain=message.retain)
        )
