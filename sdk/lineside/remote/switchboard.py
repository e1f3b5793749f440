"""All conversations of one caller over the connection of the moment; for the caller's thread.

What is on its way without the broker's acknowledgement is bounded, and each conversation takes its
turn: neither a long transfer nor fifty of them hold up a command or fill memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lineside.errors import BrokerError, BrokerRefusedError, LinesideError
from lineside.mqtt.link import Link, Message
from lineside.mqtt.topics import StationTopics
from lineside.remote.call import Order, Talk, error_of
from lineside.remote.chunk import pack_chunk
from lineside.remote.events import (
    Action,
    Ask,
    Back,
    End,
    Event,
    Fault,
    Heard,
    Joined,
    Lost,
    Taken,
    Tick,
)
from lineside.remote.hearsay import Hearsay

_COMMANDS: Final = ("signed", "chunk")


class Switchboard:
    """Feeds each conversation what happens, and does what it says.

    Args:
        broker: its URL, for messages.
        hearsay: keeps the stations' states.
        sign: makes a payload of ``cmd/signed`` of an order and an id.
        window: messages on their way without acknowledgement.
        ack_timeout_s: without any acknowledgement for so long the connection counts as lost.
    """

    def __init__(
        self,
        broker: str,
        hearsay: Hearsay,
        *,
        sign: Callable[[Order, str], bytes],
        window: int,
        ack_timeout_s: float,
    ) -> None:
        self._broker = broker
        self._hearsay = hearsay
        self._sign = sign
        self._window = window
        self._ack_timeout_s = ack_timeout_s
        self._talks: deque[Talk] = deque()
        self._on_the_way: dict[int, tuple[Talk, float]] = {}

    def add(self, talk: Talk) -> None:
        """One more; it begins with the next `joined`, or with `join`."""
        self._talks.append(talk)

    def join(self, talk: Talk) -> None:
        """The connection stands, and this one's answers will be heard."""
        self._feed(talk, Joined())

    def joined(self) -> None:
        """A new connection stands."""
        for talk in list(self._talks):
            self.join(talk)

    def lost(self, words: str) -> None:
        """The connection is gone, or is still away."""
        self._on_the_way.clear()
        for talk in self._talks:
            talk.queue.clear()
            talk.on_the_way = 0
        self._feed_all(Lost(words=words))

    def fail_all(self, error: LinesideError) -> None:
        """Waiting does not help."""
        while self._talks:
            self._talks.popleft().call.fail(error)

    def tick(self) -> None:
        """Time has gone by."""
        for talk in list(self._talks):
            if talk.call.is_given_up:
                order = talk.call.order
                self._drop(talk, BrokerError(f"{order.station}: {order.verb}: was given up"))
            else:
                self._feed(talk, Tick(waits=talk.waits))

    def publish(self, link: Link) -> None:
        """As far as there is room, one message of each in turn.

        Raises:
            BrokerError: the connection is lost.
        """
        room = min(self._window, link.receive_maximum)
        while len(self._on_the_way) < room and (talk := self._next_talk()) is not None:
            try:
                message = self._message(talk)
            except LinesideError as error:
                self._drop(talk, error)
                continue
            number = link.publish(message)
            talk.on_the_way += 1
            self._on_the_way[number] = (talk, time.monotonic())

    def settle(self, numbers: Sequence[int]) -> bool:
        """The broker has these messages.

        Returns:
            Whether there was one of ours.

        Raises:
            BrokerError: it has acknowledged nothing for too long.
        """
        found = [self._on_the_way.pop(number) for number in numbers if number in self._on_the_way]
        for talk, _ in found:
            talk.on_the_way -= 1
            self._feed(talk, Taken())
        oldest_s = next((since_s for _, since_s in self._on_the_way.values()), None)
        if oldest_s is not None and time.monotonic() - oldest_s > self._ack_timeout_s:
            told = f"{self._broker}: nothing acknowledged for {self._ack_timeout_s:g} s"
            raise BrokerError(told)
        return bool(found)

    def hear(self, link: Link) -> None:
        """What has come."""
        self._hear_refusals(link.refused_topics, link.gone_without)
        for message in link.received():
            word = self._hearsay.hear(message)
            if word is None:
                continue
            event: Event
            if word.ack is not None:
                event = Heard(ack=word.ack, clock_gap_s=word.ack.t / 1000 - time.time())
            elif word.is_back:
                event = Back()
            else:
                continue
            self._feed_station(word.station, event)

    def _hear_refusals(self, topics: Mapping[str, str], subscriptions: Sequence[str]) -> None:
        """Topics that this user may not write or read: no waiting helps."""
        for talk in list(self._talks):
            station = talk.call.order.station
            refused = [topics[t] for t in map(station.command, _COMMANDS) if t in topics]
            refused += [words for words in subscriptions if f" {station.ack} " in words]
            if refused:
                told = f"{self._broker}: {refused[0]}: see the broker's access list and limits"
                self._drop(talk, BrokerRefusedError(told, reason=refused[0]))

    def _next_talk(self) -> Talk | None:
        for _ in range(len(self._talks)):
            self._talks.rotate(-1)
            if self._talks[-1].queue:
                return self._talks[-1]
        return None

    def _message(self, talk: Talk) -> Message:
        what, order = talk.queue.popleft(), talk.call.order
        if isinstance(what, Ask):
            payload = self._sign(order, what.command_id)
            return Message(topic=order.station.command("signed"), payload=payload, optional=True)
        assert order.file is not None, "stretches of no file"
        data = order.file.read(what)
        payload = pack_chunk(sha256=order.file.sha256, offset=what.offset, data=data)
        return Message(topic=order.station.command("chunk"), payload=payload, optional=True)

    def _drop(self, talk: Talk, error: LinesideError, fault: Fault | None = None) -> None:
        self._talks.remove(talk)
        talk.call.fail(error, fault)

    def _feed_station(self, station: StationTopics, event: Event) -> None:
        for talk in list(self._talks):
            if talk.call.order.station == station:
                self._feed(talk, event)

    def _feed_all(self, event: Event) -> None:
        for talk in list(self._talks):
            self._feed(talk, event)

    def _feed(self, talk: Talk, event: Event) -> None:
        actions = talk.conversation.step(event, time.monotonic())
        talk.show()
        for action in actions:
            self._act(talk, action)

    def _act(self, talk: Talk, action: Action) -> None:
        if isinstance(action, End):
            self._end(talk, action)
        elif isinstance(action, Ask):
            talk.queue.clear()
            talk.queue.append(action)
        else:
            if action.anew:
                talk.queue.clear()
            talk.queue.append(action.stretch)

    def _end(self, talk: Talk, end: End) -> None:
        order = talk.call.order
        if end.fault is not None:
            state = self._hearsay.state(order.station)
            error = error_of(end.fault, order, broker=self._broker, state=state)
            self._drop(talk, error, end.fault)
        elif end.ack is not None:
            self._talks.remove(talk)
            talk.call.succeed(end.ack)
