"""What a station says of itself beside its verdicts: state, health, discovery, answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

from lineside.mqtt.answers import Answers
from lineside.mqtt.discovery import discovery_messages
from lineside.mqtt.link import Message
from lineside.mqtt.rival import RIVAL
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.state import StateMessage, StateWord, encode_state, make_state
from lineside.mqtt.topics import StationTopics
from lineside.mqtt.wire import Wire


class Voice:
    """Speaks whenever the window has a place for it; for the publisher's thread.

    Args:
        describe: the state of this moment; must not block.
        health: the health message of this moment; ``None``: none is sent.
        answers: what is to go to ``ack``.
        instance: 8 hex digits, in every state.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: StationTopics,
        *,
        describe: Callable[[], StateMessage],
        health: Callable[[], bytes] | None,
        answers: Answers,
        instance: str,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._describe = describe
        self._health = health
        self._answers = answers
        self._instance = instance
        self._said: StateMessage | None = None
        self._said_at_s = 0.0
        self._health_due_s = 0.0
        self._introductions: deque[Message] = deque()

    def will(self) -> Message:
        """What the broker says when we no longer can; with nothing in it that changes."""
        state = make_state(StateWord.OFFLINE, reason="connection_lost")
        return self._state_message(state)

    def restart(self) -> None:
        """A new connection: all is to be said again."""
        self._said = None
        self._health_due_s = 0.0
        if self._settings.discovery:
            prefix = self._settings.discovery_prefix
            self._introductions = deque(discovery_messages(self._topics, prefix=prefix))

    def speak(self, wire: Wire, *, reconnects: int, rival: bool) -> None:
        """Say what is due, as far as there is room."""
        self._say_state(wire, reconnects, rival)
        while self._introductions and wire.control_room() > 0:
            wire.say(self._introductions.popleft())
        self._answer(wire)
        now_s = time.monotonic()
        if self._health is not None and now_s >= self._health_due_s and wire.control_room() > 0:
            self._health_due_s = now_s + self._settings.health_interval_s
            message = Message(topic=self._topics.health, payload=self._health(), optional=True)
            wire.say(message)

    def say_offline(self, wire: Wire, *, reason: str, reconnects: int) -> None:
        """The last state, on purpose."""
        state = msgspec.structs.replace(
            self._describe(),
            st=StateWord.OFFLINE.number,
            state=StateWord.OFFLINE,
            reason=reason,
            reconnects=reconnects,
        )
        wire.say(self._state_message(state))

    def _say_state(self, wire: Wire, reconnects: int, rival: bool) -> None:
        state = self._describe()
        warn = RIVAL if rival else state.warn
        now_s = time.monotonic()
        is_due = now_s - self._said_at_s >= self._settings.state_interval_s
        # All but what changes with every part: a PLC hears at once what else does.
        said = msgspec.structs.replace(
            state, t=0, given=0, acked=0, queue=0, maps_lost=0, warn=warn
        )
        if (said == self._said and not is_due) or wire.control_room() <= 0:
            return
        full = msgspec.structs.replace(
            state, beat_s=self._settings.state_interval_s, reconnects=reconnects, warn=warn
        )
        wire.say(self._state_message(full))
        self._said, self._said_at_s = said, now_s

    def _answer(self, wire: Wire) -> None:
        while wire.control_room() > 0:
            payload = self._answers.pop()
            if payload is None:
                break
            message = Message(topic=self._topics.ack, payload=payload, optional=True)
            wire.say(message)
        if wire.link.is_written:
            self._answers.settle()

    def _state_message(self, state: StateMessage) -> Message:
        own = msgspec.structs.replace(state, instance=self._instance)
        return Message(topic=self._topics.state, payload=encode_state(own), retain=True)
