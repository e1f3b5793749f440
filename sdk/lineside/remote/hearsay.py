"""What stations say: answers to whoever asked, and their last states for whoever watches."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.commands import DETAIL_LIMIT_CHARS, AckMessage, decode_ack
from lineside.mqtt.link import Message
from lineside.mqtt.payload import wire_plain
from lineside.mqtt.state import StateMessage, StateWord, decode_state
from lineside.mqtt.topics import StationTopics, parse_topic


@dataclass(frozen=True, kw_only=True)
class Word:
    """One message of a station.

    Attributes:
        station: whose.
        ack: an answer; ``None``: it was a state.
        is_back: the station has come back, or was started anew.
    """

    station: StationTopics
    ack: AckMessage | None = None
    is_back: bool = False


class Hearsay:
    """Keeps the last state of each station. `hear` in one thread, the rest in any."""

    def __init__(self) -> None:
        self._states: dict[StationTopics, StateMessage] = {}
        self._news = 0
        self._changed = threading.Condition()

    def hear(self, message: Message) -> Word | None:
        """Take a message of a station's ``ack`` or ``state``; ``None``: it says nothing to us."""
        found = parse_topic(message.topic)
        if found is None:
            return None
        station, kind = found
        try:
            if kind == "ack" and not message.retain:
                ack = decode_ack(message.payload, source=message.topic)
                return Word(station=station, ack=_plain(ack))
            if kind == "state":
                state = decode_state(message.payload, source=message.topic)
                return Word(station=station, is_back=self._keep(station, state))
        except InputDataError:
            return None  # whatever else speaks there
        return None

    def state(self, station: StationTopics) -> StateMessage | None:
        """The last one heard."""
        return self._states.get(station)

    def wait(self, seen: int, timeout_s: float) -> int:
        """Until more than ``seen`` states have come, or the time is over; how many have."""
        with self._changed:
            self._changed.wait_for(lambda: self._news != seen, timeout_s)
            return self._news

    def _keep(self, station: StationTopics, state: StateMessage) -> bool:
        before = self._states.get(station)
        with self._changed:
            self._states[station] = state
            self._news += 1
            self._changed.notify_all()
        if before is None or state.state is StateWord.OFFLINE:
            return False
        return before.state is StateWord.OFFLINE or before.instance != state.instance


def _plain(ack: AckMessage) -> AckMessage:
    """Whoever may write there must not write on a terminal."""
    return msgspec.structs.replace(ack, detail=wire_plain(ack.detail[:DETAIL_LIMIT_CHARS]))
