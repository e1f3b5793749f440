"""One connection with its window, and what this broker lets us write. For one thread.

A broker of MQTT 5 acknowledges with an error what its access list forbids, and some (mosquitto
2.0.11) hang up then. With more of ours on its way at that moment, TCP throws the answer away
together with the connection, and nobody learns why. So the first message on each topic travels
alone, once in a process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lineside.mqtt.flight import Flight, Kind, Sent
from lineside.mqtt.link import Link, Message

# A broker that hangs up so often at the first message on a topic does not want it.
_TRIALS = 3


class Permissions:
    """What was found out about topics; outlives connections.

    Args:
        asks: the broker tells what it forbids (MQTT 5).
    """

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self._proven: set[str] = set()
        self._refused: dict[str, str] = {}
        self._lost: dict[str, int] = {}
        self._trial: tuple[int, Message] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What is done without."""
        return tuple(self._refused.values())

    @property
    def on_trial(self) -> bool:
        """Whether a first message is on its way, and nothing else may be sent."""
        return self._trial is not None

    def may(self, message: Message) -> bool:
        """Whether to send it at all."""
        return message.topic not in self._refused

    def sent(self, number: int, message: Message) -> None:
        """It left under this number."""
        if self._asks and message.topic not in self._proven:
            self._trial = (number, message)

    def settle(self, numbers: Sequence[int], refused: dict[str, str]) -> None:
        """The broker has answered."""
        self._refused.update(refused)
        if self._trial is not None and self._trial[0] in numbers:
            topic = self._trial[1].topic
            self._proven.add(topic)
            self._lost.pop(topic, None)
            self._trial = None

    def lost(self, refused: dict[str, str]) -> None:
        """The connection is over."""
        self._refused.update(refused)
        trial, self._trial = self._trial, None
        if trial is None or not trial[1].optional:
            return
        topic = trial[1].topic
        self._lost[topic] = self._lost.get(topic, 0) + 1
        if self._lost[topic] >= _TRIALS:
            self._refused.setdefault(topic, f"the broker hangs up at messages on {topic}")


class Wire:
    """Sends as far as there is room."""

    def __init__(self, link: Link, flight: Flight, permissions: Permissions) -> None:
        self.link = link
        self._flight = flight
        self._permissions = permissions

    def live_room(self, *, history_waits: bool) -> int:
        """Messages that may go to the line now."""
        return 0 if self._closed else self._flight.live_room(history_waits=history_waits)

    def history_room(self, *, live_waits: bool) -> int:
        """Messages that may go to history now."""
        return 0 if self._closed else self._flight.history_room(live_waits=live_waits)

    def control_room(self) -> int:
        """Messages about the station itself that may go now."""
        return 0 if self._closed else self._flight.control_room()

    @property
    def _closed(self) -> bool:
        return self._permissions.on_trial

    def permitted(self, messages: Sequence[Message]) -> list[Message]:
        """Those that this broker lets us write."""
        return [message for message in messages if self._permissions.may(message)]

    def say(self, message: Message) -> None:
        """Send something about the station itself; what the broker refuses is left out."""
        if self._permissions.may(message):
            self.send(message, "control")

    def send(self, message: Message, kind: Kind, seq: int | None = None) -> None:
        """Send it; `step` tells when the broker has it."""
        number = self.link.publish(message)
        self._flight.add(number, Sent(since_s=time.monotonic(), kind=kind, seq=seq))
        self._permissions.sent(number, message)

    def step(self, timeout_s: float) -> list[int]:
        """Read and write for a while; the verdicts of which the broker now has everything."""
        numbers = self.link.step(timeout_s)
        self._permissions.settle(numbers, self.link.refused_topics)
        return self._flight.settle(numbers)
