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
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from lineside.errors import BrokerError, BrokerRefusedError
from lineside.mqtt.callbacks import Callbacks, Message
from lineside.mqtt.faults import FAULTS, broker_error, words_of, words_of_code
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.tls import make_context
from lineside.mqtt.wake import Wake

__all__ = ["CONNECT_TIMEOUT_S", "Link", "Message"]

CONNECT_TIMEOUT_S = 5.0
_ALERT_WAIT_S = 0.3


class Link:
    """A connection. Every method is for one thread; another may only set the ``wake``.

    Attributes:
        closed_by_broker: how the connection ended, when it has.

    Raises:
        BrokerRefusedError: at opening or while publishing: the broker does not want us, or TLS
            shows that one of the two must not trust the other.
        BrokerError: not reachable, or lost. A link that raised is of no further use; close it.
        ConfigurationError: the password, or a file of TLS, cannot be read.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        wake: Wake,
        will: Message | None = None,
    ) -> None:
        self.closed_by_broker = False
        self._address = settings.address
        self._wake = wake
        self._client = self._make_client(settings, client_id)
        self._notes = Callbacks(self._client)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        try:
            self._enter(settings.keepalive_s)
        except BaseException:
            self.abort()
            raise

    @property
    def receive_maximum(self) -> int:
        """Messages without acknowledgement that the broker stands; MQTT 5 tells."""
        return self._notes.receive_maximum

    @property
    def taken_over(self) -> bool:
        """Whether it ended because another client came with the same id; MQTT 5 tells."""
        return self._notes.taken_over

    @property
    def gone_without(self) -> tuple[str, ...]:
        """Subscriptions that the broker refuses and that we go on without, in words."""
        return self._notes.gone_without

    @property
    def refused_topics(self) -> dict[str, str]:
        """Topics of optional messages that the broker has refused, and its words."""
        return self._notes.refused_topics

    @property
    def subscribed(self) -> bool:
        """Whether the broker has granted what `subscribe` asked for."""
        return self._notes.subscribed

    @property
    def is_written(self) -> bool:
        """Whether all that was published has been handed to the machine's network."""
        return not self._client.want_write()

    def publish(self, message: Message) -> int:
        """Send with QoS 1; returns the number that `step` gives back once acknowledged."""
        with self._mapped():
            info = self._client.publish(
                message.topic, message.payload, qos=1, retain=message.retain
            )
            self._check(info.rc)
            self._notes.sent(info.mid, message)
            return info.mid

    def subscribe(self, filters: Sequence[str], *, optional: bool = False) -> None:
        """Ask for all messages of these topics, with QoS 1; they come out of `received`.

        What the broker does not grant is a refusal, or with ``optional`` noted in `gone_without`.
        """
        with self._mapped():
            code, number = self._client.subscribe([(topic, 1) for topic in filters])
            self._check(code)
            if optional and number is not None:
                self._notes.asked(number, filters)

    def step(self, timeout_s: float) -> list[int]:
        """Read and write until something happens, the wake is set, or the time is over.

        Returns:
            The numbers of messages that the broker has acknowledged since.
        """
        with self._mapped():
            self._exchange(timeout_s)
        self._raise_refusal()
        return self._notes.take_acknowledged()

    def received(self) -> list[Message]:
        """Messages that have come since; the broker already knows that we have them."""
        return self._notes.take_received()

    def close(self) -> None:
        """Say goodbye if the connection still stands (no last will then) and free the socket."""
        with contextlib.suppress(*FAULTS):
            self._client.disconnect()
            self._client.loop_write()
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
        # With this set paho leaves all writing to `_exchange`, which reads first: what a broker
        # says before it hangs up is lost when one writes to it first.
        client.on_socket_register_write = _leave_writing_to_us
        if settings.username:
            client.username_pw_set(settings.username, settings.read_password())
        if self._address.tls:
            client.tls_set_context(make_context(settings))
        return client

    def _enter(self, keepalive_s: int) -> None:
        with self._mapped():
            self._client.connect(self._address.host, self._address.port, keepalive=keepalive_s)
            sock = self._client.socket()
            if isinstance(sock, socket.socket):
                # A verdict must not wait for TCP to hear about the one before (Nagle's algorithm).
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._hear_out_handshake(sock)
            self._await_entry()

    def _hear_out_handshake(self, sock: socket.socket) -> None:
        # In TLS 1.3 the client has finished before the broker has looked at its certificate
        # (RFC 8446, section 2). Tickets or an alert follow at once; servers without either are few.
        if isinstance(sock, ssl.SSLSocket) and sock.version() == "TLSv1.3":
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
            if poll.poll(_ALERT_WAIT_S * 1000):
                self._check(self._client.loop_read())

    def _await_entry(self) -> None:
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._notes.let_in:
            if self._notes.refusal is not None:
                break
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise BrokerError(f"{self._address}: no answer within {CONNECT_TIMEOUT_S:g} s")
            try:
                self._exchange(left_s)
            except BrokerError:
                # After a refusal the broker hangs up; the refusal says more.
                if self._notes.refusal is None:
                    raise
        self._raise_refusal()

    def _raise_refusal(self) -> None:
        refusal = self._notes.refusal
        if refusal is not None:
            raise BrokerRefusedError(f"{self._address}: {refusal}", reason=refusal)

    def _exchange(self, timeout_s: float) -> None:
        sock = self._client.socket()
        if sock is None:
            words = self._notes.error or "the connection was closed"
            raise broker_error(self._address, words)
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
            code = self._client.loop_read()
            self.closed_by_broker = code != MQTTErrorCode.MQTT_ERR_SUCCESS
            self._check(code)
        if happened & select.POLLOUT:
            self._check(self._client.loop_write())
        self._check(self._client.loop_misc())

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise broker_error(self._address, self._notes.error or words_of_code(code))

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise broker_error(self._address, words_of(error)) from error


def _leave_writing_to_us(_client: paho.Client, _data: object, _socket: object) -> None:
    return None
