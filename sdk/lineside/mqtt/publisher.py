"""From the outbox to the broker: a window of our own, live verdicts first, patience, and commands.

Runs in its own thread; inspection never waits for it. Its memory is the window and what was read
ahead.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from lineside.backoff import Backoff
from lineside.errors import BrokerError, BrokerRefusedError, ConfigurationError
from lineside.mqtt.answers import Answers
from lineside.mqtt.commands import CommandHandler
from lineside.mqtt.connection import Connection, ConnectionWord
from lineside.mqtt.desk import CommandDesk, RemoteIntake, Reply
from lineside.mqtt.expiry import Clocks, ExpiryClock, read_clocks
from lineside.mqtt.flight import Flight
from lineside.mqtt.lanes import Lanes, Spool
from lineside.mqtt.link import Link, Message
from lineside.mqtt.messages import Lane, VerdictMessages
from lineside.mqtt.payload import VerdictMessage
from lineside.mqtt.repeats import Repeats
from lineside.mqtt.rival import IdRival, TopicRival
from lineside.mqtt.settings import WINDOW, MqttSettings
from lineside.mqtt.state import StateMessage
from lineside.mqtt.topics import REMOTE, StationTopics
from lineside.mqtt.voice import Voice
from lineside.mqtt.wake import Wake
from lineside.mqtt.wire import Permissions, Wire

# Of the default window, what verdicts may take.
VERDICT_WINDOW = Flight(WINDOW).verdict_places
_TICK_S = 0.5
_GOODBYE_S = 1.0


class Publisher:
    """Sends what the spool holds until told to stop: live verdicts first, the others as history.

    Args:
        settings: the broker.
        topics: where to speak.
        spool: the outbox.
        describe: the state of this moment; called in this thread, must not block.
        handle: does what commands say, in this thread; ``None``: none are subscribed to.
        remote: takes what is signed, where there is a ``handle``; ``None``: nobody does.
        health: the health message of this moment, in this thread; ``None``: none is sent.
        pack: a verdict as ``verdict/bin`` has it; needed with ``settings.binary``.
        clocks: both clocks of this moment.

    Attributes:
        connection: how it stands with the broker; read from any thread.
        instance: 8 hex digits drawn for this publisher, in each of its states.
        repeats: verdicts to be published once more; `wake` after an offer.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        topics: StationTopics,
        spool: Spool,
        describe: Callable[[], StateMessage],
        handle: CommandHandler | None = None,
        remote: RemoteIntake | None = None,
        health: Callable[[], bytes] | None = None,
        pack: Callable[[VerdictMessage], bytes] | None = None,
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        self.connection = Connection()
        self.instance = secrets.token_hex(4)
        self.repeats = Repeats()
        self._settings = settings
        self._topics = topics
        self._spool = spool
        self._messages = VerdictMessages(settings, topics, pack)
        self._desk = None if handle is None else CommandDesk(handle, remote)
        self._answers = Answers()
        self._voice = Voice(
            settings,
            topics,
            describe=describe,
            health=health,
            answers=self._answers,
            instance=self.instance,
        )
        self._wake = Wake()
        self._stop_by_s: float | None = None
        self._stopping = threading.Event()
        self._goodbye = "stopped"
        self._clock = ExpiryClock(given=spool.given, clocks=clocks)
        self._flight = Flight(settings.window)
        self._lanes = Lanes(spool, self._clock, is_in_flight=lambda seq: self._flight.has_seq(seq))
        self._permissions = Permissions(asks=settings.protocol == "5")
        self._queues: dict[Lane, deque[tuple[int, Message]]] = {}
        self._topic_rival = TopicRival(self.instance)
        self._id_rival = IdRival(settings.reconnect_max_s)
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s)
        self._online_since_s = 0.0

    @property
    def client_id(self) -> str:
        """The same at every start: the broker then ends our old connection before the new one."""
        topics = self._topics
        return self._settings.client_id or f"lineside-{topics.site}-{topics.line}-{topics.station}"

    def wake(self) -> None:
        """There is something new in the spool, or in the state. From any thread."""
        self._wake.set()

    def answer(self, reply: Reply) -> None:
        """Answer a command whose handler could not do so at once. From any thread."""
        if self._desk is not None:
            self._desk.settle(reply)
        self._answers.reply(reply)
        self._wake.set()

    def tell(self, *, cmd: str, detail: str = "", ok: bool = True) -> threading.Event:
        """Say on ``ack`` what no command asked for, e.g. a changeover by a trigger's product.

        From any thread.

        Returns:
            An event that is set once it was written to the connection, or cannot be: at once when
            there is no connection.
        """
        written = self._answers.tell(cmd=cmd, detail=detail, ok=ok)
        self._wake.set()
        return written

    def stop(self, drain_s: float, *, reason: str = "stopped") -> None:
        """Send what still can be sent within ``drain_s``, say offline, end. From any thread."""
        self._goodbye = reason
        self._stop_by_s = time.monotonic() + drain_s
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """The thread's body."""
        try:
            while not self._stopping.is_set():
                self._attempt()
                self._answers.close()
                self._pause()
        finally:
            self._note("ended", self.connection.detail)
            self._answers.close()
            self._wake.close()

    def _attempt(self) -> None:
        link = None
        try:
            self._note("connecting")
            with self._open() as link:
                self._serve(link)
        except BrokerRefusedError as error:
            self._note("refused", str(error))
        except (BrokerError, ConfigurationError) as error:
            self._note("waiting", str(error))
        else:
            return
        if link is not None:
            self._permissions.lost(link.refused_topics)
            self._id_rival.ended(
                time.monotonic() - self._online_since_s,
                closed_by_broker=link.closed_by_broker and not link.refused_topics,
                taken_over=link.taken_over,
            )
            if self._id_rival.found:
                self._note("refused", self._id_rival.words(self.client_id))

    def _open(self) -> Link:
        link = Link(
            self._settings, client_id=self.client_id, wake=self._wake, will=self._voice.will()
        )
        self.connection = Connection(word="online", connects=self.connection.connects + 1)
        self._online_since_s = time.monotonic()
        return link

    def _serve(self, link: Link) -> None:
        # What was on its way when the last connection broke is sent again, by the same id.
        self._flight = Flight(min(self._settings.window, link.receive_maximum))
        self._queues = {"live": deque(), "history": deque()}
        self._lanes.restart()
        self.repeats.restart()
        self._voice.restart()
        self._answers.open()
        commands = () if self._desk is None else (self._topics.commands,)
        link.subscribe((self._topics.state, *commands), optional=True)
        wire = Wire(link, self._flight, self._permissions)
        while not self._is_done():
            self._clock.observe(self._spool.given)
            self._speak(wire)
            self._fill(wire)
            self._settle(wire.step(0.0 if self._lanes.passed_over else _TICK_S))
            self._hear(link)
        self._say_offline(wire)

    def _is_done(self) -> bool:
        if not self._stopping.is_set():
            return False
        if self._stop_by_s is not None and time.monotonic() >= self._stop_by_s:
            return True
        waits = self._lanes.live_waits or self._history_waits or any(self._queues.values())
        return not (waits or len(self._flight) or len(self._answers))

    def _speak(self, wire: Wire) -> None:
        rival = self._topic_rival.words(self._topics, now_s=time.monotonic())
        amiss = "; ".join(filter(None, (rival, *wire.link.gone_without, *self._permissions.words)))
        if amiss != self.connection.detail:
            self._note("online", amiss)
        self._voice.speak(wire, reconnects=self.connection.reconnects, rival=bool(rival))

    @property
    def _history_waits(self) -> bool:
        return self._lanes.history_waits or self.repeats.waits

    def _fill(self, wire: Wire) -> None:
        while wire.live_room(history_waits=self._history_waits) > 0:
            if not self._send_next(wire, "live"):
                break
        while wire.history_room(live_waits=self._lanes.live_waits) > 0:
            if not self._send_next(wire, "history"):
                break

    def _send_next(self, wire: Wire, kind: Lane) -> bool:
        queue = self._queues[kind]
        if not queue:
            if kind == "live":
                row = self._lanes.next_live()
            else:  # what somebody waits for first
                row = self.repeats.next() or self._lanes.next_history()
            if row is None:
                return False
            messages = wire.permitted(self._messages.of(row, kind))
            self._flight.expect(row.seq, len(messages))
            queue.extend((row.seq, message) for message in messages)
        seq, message = queue.popleft()
        wire.send(message, kind, seq)
        return True

    def _settle(self, seqs: Sequence[int]) -> None:
        if seqs:
            self._spool.acknowledge([seq for seq in seqs if seq > 0])
            self.repeats.settle(seqs)
        now_s = time.monotonic()
        stood_s = now_s - self._online_since_s
        self._id_rival.stands(stood_s)
        # Two stations with one client id throw each other out: then not before there is peace.
        if (seqs or stood_s > self._settings.reconnect_max_s) and not self._id_rival.found:
            self._backoff.succeeded()
        oldest_s = self._flight.oldest_s()
        if oldest_s is not None and now_s - oldest_s > self._settings.ack_timeout_s:
            raise BrokerError(
                f"{self._settings.address}: nothing acknowledged for "
                f"{self._settings.ack_timeout_s:g} s; connecting anew"
            )

    def _hear(self, link: Link) -> None:
        for message in link.received():
            if message.topic == self._topics.state:
                self._topic_rival.hear(
                    message.payload, retained=message.retain, now_s=time.monotonic()
                )
            elif self._desk is not None:
                name = message.topic.rpartition("/")[2]
                # A flood without signature must not keep out what is signed.
                if self._answers.has_room or name in REMOTE:
                    reply = self._desk.take(name, message.payload, retained=message.retain)
                    if reply is not None:
                        self._answers.reply(reply)

    def _say_offline(self, wire: Wire) -> None:
        deadline_s = time.monotonic() + _GOODBYE_S
        while wire.control_room() <= 0 and time.monotonic() < deadline_s:
            self._settle(wire.step(0.1))
        self._voice.say_offline(wire, reason=self._goodbye, reconnects=self.connection.reconnects)
        while len(self._flight) and time.monotonic() < deadline_s:
            self._settle(wire.step(0.1))

    def _note(self, word: ConnectionWord, detail: str = "") -> None:
        self.connection = msgspec.structs.replace(self.connection, word=word, detail=detail)

    def _pause(self) -> None:
        """Wait before the next attempt, by chance a little longer or shorter: a hall of stations
        must not come back all at once."""
        until_s = time.monotonic() + self._backoff.pause_s() * random.uniform(0.75, 1.25)
        while not self._stopping.is_set() and (left_s := until_s - time.monotonic()) > 0:
            self._clock.observe(self._spool.given)
            self._stopping.wait(min(left_s, _TICK_S))
