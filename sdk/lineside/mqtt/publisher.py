"""From the outbox to the broker: a window of our own, patience, and a state topic that is true.

Runs in its own thread; inspection never waits for it. Its only memory is the window.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from lineside.errors import BrokerError, BrokerRefusedError, ConfigurationError, StorageError
from lineside.mqtt.link import Link, Message
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.state import StateMessage, StateWord, encode_state, make_state
from lineside.mqtt.topics import StationTopics
from lineside.mqtt.wake import Wake

# Messages on their way without PUBACK; also the default of brokers, and a PLC's broker often has
# no more buffers. Some places are the state's own: it must come through most of all when the broker
# has stopped acknowledging.
WINDOW = 20
_STATE_WINDOW = 4
VERDICT_WINDOW = WINDOW - _STATE_WINDOW
_TICK_S = 0.5
_GOODBYE_S = 1.0


class WaitingRow(Protocol):
    """A verdict as the outbox keeps it."""

    @property
    def seq(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


class Spool(Protocol):
    """What the publisher needs of an outbox; it may raise ``StorageError`` and is asked again."""

    def unsent(self, after_seq: int, limit: int) -> Sequence[WaitingRow]: ...
    def acknowledge(self, seqs: Sequence[int]) -> None: ...


ConnectionWord = Literal["connecting", "online", "waiting", "refused", "ended"]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How the publisher stands with the broker.

    Attributes:
        word: ``waiting`` is for the next attempt.
        detail: the last fault in words, ``""`` after a connection was made.
        connects: connections made so far.
    """

    word: ConnectionWord = "connecting"
    detail: str = ""
    connects: int = 0

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""
        return max(self.connects - 1, 0)


@dataclass(frozen=True, kw_only=True)
class _Sent:
    since_s: float
    seq: int | None  # None: a state, not a verdict


class Publisher:
    """Sends what the spool holds, in order, until told to stop.

    Args:
        settings: the broker.
        topics: where to speak.
        spool: the outbox.
        describe: the state of this moment; called in this thread, must not block.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        topics: StationTopics,
        spool: Spool,
        describe: Callable[[], StateMessage],
    ) -> None:
        self.connection = Connection()
        self._settings = settings
        self._topics = topics
        self._spool = spool
        self._describe = describe
        self._wake = Wake()
        self._stop_by_s: float | None = None
        self._stopping = threading.Event()
        self._goodbye = "stopped"
        self._in_flight: dict[int, _Sent] = {}
        self._after_seq = 0
        self._said: tuple[StateWord, str] | None = None
        self._said_at_s = 0.0
        self._pause_s = settings.reconnect_min_s
        self._online_since_s = 0.0

    @property
    def client_id(self) -> str:
        """The same at every start: the broker then ends our old connection before the new one."""
        topics = self._topics
        return self._settings.client_id or f"lineside-{topics.site}-{topics.line}-{topics.station}"

    def wake(self) -> None:
        """There is something new in the spool, or in the state. From any thread."""
        self._wake.set()

    def stop(self, drain_s: float, *, reason: str = "stopped") -> None:
        """Send what still can be sent within ``drain_s``, say offline, end. From any thread."""
        self._goodbye = reason
        self._stop_by_s = time.monotonic() + drain_s
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """The thread's body."""
        while not self._stopping.is_set():
            try:
                self._note("connecting")
                with self._open() as link:
                    self._serve(link)
            except BrokerRefusedError as error:
                self._note("refused", str(error))
            except (BrokerError, ConfigurationError) as error:
                self._note("waiting", str(error))
            self._rewind()
            self._pause()
        self._note("ended", self.connection.detail)
        self._wake.close()

    def _open(self) -> Link:
        # Of this moment, but with nothing that changes: the broker says it when we no longer can.
        will = make_state(StateWord.OFFLINE, reason="connection_lost")
        link = Link(
            self._settings,
            client_id=self.client_id,
            wake=self._wake,
            will=Message(topic=self._topics.state, payload=encode_state(will), retain=True),
        )
        self.connection = Connection(word="online", connects=self.connection.connects + 1)
        return link

    def _serve(self, link: Link) -> None:
        self._said = None
        self._online_since_s = time.monotonic()
        while not self._is_done():
            self._say_state(link)
            self._fill(link)
            self._settle(link.step(_TICK_S))
        self._say_offline(link)

    def _is_done(self) -> bool:
        if not self._stopping.is_set():
            return False
        if self._stop_by_s is not None and time.monotonic() >= self._stop_by_s:
            return True
        return not self._in_flight and not self._next_rows()

    def _next_rows(self) -> Sequence[WaitingRow]:
        room = VERDICT_WINDOW - (len(self._in_flight) - self._states_in_flight())
        if room <= 0:
            return ()
        try:
            return self._spool.unsent(self._after_seq, room)
        except StorageError:
            # The outbox knows and the state says so; the next tick asks again.
            return ()

    def _fill(self, link: Link) -> None:
        now_s = time.monotonic()
        for row in self._next_rows():
            number = link.publish(Message(topic=self._topics.verdict, payload=row.payload))
            self._in_flight[number] = _Sent(since_s=now_s, seq=row.seq)
            self._after_seq = row.seq

    def _settle(self, numbers: Sequence[int]) -> None:
        sent = [self._in_flight.pop(number) for number in numbers if number in self._in_flight]
        seqs = [one.seq for one in sent if one.seq is not None]
        if seqs:
            self._spool.acknowledge(seqs)
        now_s = time.monotonic()
        # Not at once when connected: two stations with one client id throw each other out.
        if seqs or now_s - self._online_since_s > self._settings.reconnect_max_s:
            self._pause_s = self._settings.reconnect_min_s
        oldest_s = min((one.since_s for one in self._in_flight.values()), default=now_s)
        if now_s - oldest_s > self._settings.ack_timeout_s:
            raise BrokerError(
                f"{self._settings.address}: nothing acknowledged for "
                f"{self._settings.ack_timeout_s:g} s; connecting anew"
            )

    def _rewind(self) -> None:
        """What was on its way when the connection broke is sent again, by the same id."""
        lost = [sent.seq for sent in self._in_flight.values() if sent.seq is not None]
        self._after_seq = min([self._after_seq, *(seq - 1 for seq in lost)])
        self._in_flight.clear()

    def _say_state(self, link: Link) -> None:
        state = self._describe()
        now_s = time.monotonic()
        is_due = now_s - self._said_at_s >= self._settings.state_interval_s
        if (state.state, state.reason) == self._said and not is_due:
            return
        if self._states_in_flight() >= _STATE_WINDOW:
            return
        full = msgspec.structs.replace(
            state, beat_s=self._settings.state_interval_s, reconnects=self.connection.reconnects
        )
        self._send_state(link, full)
        self._said, self._said_at_s = (state.state, state.reason), now_s

    def _states_in_flight(self) -> int:
        return sum(sent.seq is None for sent in self._in_flight.values())

    def _send_state(self, link: Link, state: StateMessage) -> None:
        message = Message(topic=self._topics.state, payload=encode_state(state), retain=True)
        self._in_flight[link.publish(message)] = _Sent(since_s=time.monotonic(), seq=None)

    def _say_offline(self, link: Link) -> None:
        state = msgspec.structs.replace(
            self._describe(),
            st=StateWord.OFFLINE.number,
            state=StateWord.OFFLINE,
            reason=self._goodbye,
            reconnects=self.connection.reconnects,
        )
        deadline_s = time.monotonic() + _GOODBYE_S
        while self._states_in_flight() >= _STATE_WINDOW and time.monotonic() < deadline_s:
            self._settle(link.step(0.1))
        self._send_state(link, state)
        while self._in_flight and time.monotonic() < deadline_s:
            self._settle(link.step(0.1))

    def _note(self, word: ConnectionWord, detail: str = "") -> None:
        self.connection = msgspec.structs.replace(self.connection, word=word, detail=detail)

    def _pause(self) -> None:
        """Wait before the next attempt, by chance a little longer or shorter: a hall of stations
        must not come back all at once."""
        if not self._stopping.is_set():
            self._stopping.wait(self._pause_s * random.uniform(0.75, 1.25))
            self._pause_s = min(self._pause_s * 2, self._settings.reconnect_max_s)
