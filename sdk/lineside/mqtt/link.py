"""One connection to the broker, from CONNECT to its end, driven by one thread of ours.

paho 2.2 keeps a queue, a thread and a reconnection of its own, and each has a fault that loses or
floods: it sends everything at reconnect whatever ``max_inflight`` says; ``publish`` returns an
error for a message that it has queued; ``loop_stop`` waits for ever for what is not acknowledged;
an exception in a callback ends its thread while ``is_connected`` stays true. So a client lives for
one connection only, runs in no thread of its own, and what it still held at the end is sent again
from our outbox.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from lineside.errors import BrokerError, BrokerRefusedError, ConfigurationError
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.wake import Wake

CONNECT_TIMEOUT_S = 5.0
# What paho lets through when a peer sends nonsense: the packets are taken apart without checks.
_FAULTS = (
    OSError,
    MQTTException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One MQTT message; always sent with QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Link:
    """A connection. Every method is for one thread; another may only set the ``wake``.

    Raises:
        BrokerRefusedError: at opening or while publishing: the broker does not want us.
        BrokerError: not reachable, or lost. A link that raised is of no further use; close it.
        ConfigurationError: the password or the CA file cannot be read.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        wake: Wake,
        will: Message | None = None,
    ) -> None:
        self._address = settings.address
        self._wake = wake
        self._acknowledged: deque[int] = deque()
        self._received: deque[Message] = deque()
        self._let_in = False
        self._subscribed = False
        self._refusal: str | None = None
        self._client = self._make_client(settings, client_id)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        try:
            self._enter(settings.keepalive_s)
        except BaseException:
            self.abort()
            raise

    def publish(self, message: Message) -> int:
        """Send with QoS 1; returns the number that `step` gives back once acknowledged."""
        with self._mapped():
            info = self._client.publish(
                message.topic, message.payload, qos=1, retain=message.retain
            )
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise BrokerError(f"{self._address}: {_words_of_code(info.rc)}")
            return info.mid

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for all messages of these topics, with QoS 1; they come out of `received`."""
        with self._mapped():
            code, _ = self._client.subscribe([(topic, 1) for topic in filters])
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise BrokerError(f"{self._address}: {_words_of_code(code)}")

    @property
    def subscribed(self) -> bool:
        """Whether the broker has granted what `subscribe` asked for."""
        return self._subscribed

    def step(self, timeout_s: float) -> list[int]:
        """Read and write until something happens, the wake is set, or the time is over.

        Returns:
            The numbers of messages that the broker has acknowledged since.
        """
        with self._mapped():
            self._exchange(timeout_s)
        if self._refusal is not None:
            raise BrokerRefusedError(f"{self._address}: {self._refusal}", reason=self._refusal)
        found = list(self._acknowledged)
        self._acknowledged.clear()
        return found

    def received(self) -> list[Message]:
        """Messages that have come since; the broker already knows that we have them."""
        found = list(self._received)
        self._received.clear()
        return found

    def close(self) -> None:
        """Say goodbye if the connection still stands (no last will then) and free the socket."""
        with contextlib.suppress(*_FAULTS):
            self._client.disconnect()
        self.abort()

    def abort(self) -> None:
        """Drop the connection without goodbye: the broker tells the last will."""
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _make_client(self, settings: MqttSettings, client_id: str) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5 if settings.protocol == "5" else paho.MQTTv311,
            clean_session=None if settings.protocol == "5" else True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        # Unlimited on paho's side: the window is ours, and what paho queues it may forget.
        client.max_inflight_messages_set(0)
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        if settings.username:
            client.username_pw_set(settings.username, settings.read_password())
        if self._address.tls:
            _set_tls(client, settings)
        return client

    def _enter(self, keepalive_s: int) -> None:
        with self._mapped():
            self._client.connect(self._address.host, self._address.port, keepalive=keepalive_s)
            self._await_entry()

    def _await_entry(self) -> None:
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._let_in:
            if self._refusal is not None:
                break
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise BrokerError(f"{self._address}: no answer within {CONNECT_TIMEOUT_S:g} s")
            try:
                self._exchange(left_s)
            except BrokerError:
                # After a refusal the broker hangs up; the refusal says more.
                if self._refusal is None:
                    raise
        if self._refusal is not None:
            raise BrokerRefusedError(f"{self._address}: {self._refusal}", reason=self._refusal)

    def _exchange(self, timeout_s: float) -> None:
        sock = self._client.socket()
        if sock is None:
            raise BrokerError(f"{self._address}: the connection was closed")
        # TLS may hold decrypted bytes that poll cannot see.
        waiting = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        poll = select.poll()
        poll.register(self._wake.fileno(), select.POLLIN)
        writes = select.POLLOUT if self._client.want_write() else 0
        poll.register(sock.fileno(), select.POLLIN | writes)
        events = dict(poll.poll(0 if waiting else timeout_s * 1000))
        if self._wake.fileno() in events:
            self._wake.clear()
        happened = events.get(sock.fileno(), 0)
        if waiting or happened & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._check(self._client.loop_read())
        if happened & select.POLLOUT:
            self._check(self._client.loop_write())
        self._check(self._client.loop_misc())

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerError(f"{self._address}: {_words_of_code(code)}")

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            raise BrokerError(f"{self._address}: {_words_of(error)}") from error

    # The callbacks only note: whatever else they did could raise, inside paho.

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            self._let_in = True

    def _on_publish(
        self,
        _client: paho.Client,
        _data: object,
        number: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        # MQTT 5 (section 3.4.2.1) acknowledges with an error what the broker has thrown away.
        if reason.is_failure:
            self._refusal = f"a message was refused: {reason}"
        else:
            self._acknowledged.append(number)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        _number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        # A broker with access rules answers SUBACK with a failure and then stays silent for ever.
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._refusal = f"the subscription was refused: {refused[0]}"
        else:
            self._subscribed = True

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # MQTT 3.1.1, section 1.5.3: no broker may pass on such a topic
        self._received.append(
            Message(topic=topic, payload=bytes(message.payload), retain=message.retain)
        )


def _words_of(error: Exception) -> str:
    # Not `[Errno 111] …`: the number tells an operator nothing.
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__


def _words_of_code(code: MQTTErrorCode) -> str:
    return paho.error_string(code).removesuffix(".")  # a sentence there, a part of one here


def _set_tls(client: paho.Client, settings: MqttSettings) -> None:
    ca_file = settings.ca_file
    try:
        client.tls_set(ca_certs=None if ca_file is None else str(ca_file))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"mqtt.ca_file: {ca_file}: {_words_of(error)}", path="mqtt.ca_file"
        ) from error
