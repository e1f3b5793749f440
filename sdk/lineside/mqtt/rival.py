"""Two stations that were set up as one: on the same topics, or with the same client id. Pure.

A broker lets one client in with each id and throws the other out (MQTT 3.1.1, sec. 3.1.4); the
thrown-out one comes back and throws the first one out, and so on for ever.
"""

from __future__ import annotations

from lineside.errors import InputDataError
from lineside.mqtt.state import StateWord, decode_state

# What the state's ``warn`` says.
RIVAL = "rival"
# Thrown out so soon and so often in a row, it is another client, not a broker that was restarted.
SOON_S = 10.0
OFTEN = 3
# The rival writes its state once in `beat_s`; silent for so many, it has gone.
_BEATS = 3


class TopicRival:
    """Hears whether another station speaks on our state topic.

    Args:
        instance: what our own states carry.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._until_s = 0.0
        self._name = ""

    def hear(self, payload: bytes, *, retained: bool, now_s: float) -> None:
        """Look at a message of our own state topic; what is retained may be long past."""
        if retained:
            return
        try:
            state = decode_state(payload, source="state")
        except InputDataError:
            return
        if state.instance in ("", self._instance) or state.state is StateWord.OFFLINE:
            return
        self._name = state.instance
        self._until_s = now_s + _BEATS * max(state.beat_s, 1)

    def words(self, topics: object, *, now_s: float) -> str:
        """Who else is there; ``""`` when nobody is."""
        if now_s >= self._until_s:
            return ""
        return (
            f"another station (instance {self._name}) speaks on the topics of {topics}, too: give "
            "each its own station.site, line and name"
        )


class IdRival:
    """Judges from how connections end whether another client uses our client id.

    Args:
        longest_pause_s: between a station's attempts; a rival of the same kind comes back within.
    """

    def __init__(self, longest_pause_s: float) -> None:
        # The rival's pause may be a quarter longer by chance.
        self._peace_s = 1.5 * longest_pause_s
        self._in_a_row = 0
        self._found = False

    @property
    def found(self) -> bool:
        """Whether to hold back: coming back soon would only throw the other one out again."""
        return self._found

    def ended(self, stood_s: float, *, closed_by_broker: bool, taken_over: bool) -> None:
        """A connection that had been let in has ended after ``stood_s``."""
        if taken_over:
            self._found = True
        elif not closed_by_broker or stood_s > max(SOON_S, self._peace_s if self._found else 0.0):
            self._in_a_row, self._found = 0, False
        else:
            self._in_a_row += 1
            self._found = self._found or self._in_a_row >= OFTEN

    def stands(self, stood_s: float) -> None:
        """The connection stands since so long."""
        if stood_s > max(SOON_S, self._peace_s):
            self._in_a_row, self._found = 0, False

    def words(self, client_id: str) -> str:
        """What to do about it."""
        return (
            "the broker lets us in and throws us out again: it looks as if another client had the "
            f"client id {client_id!r}; give each station its own mqtt.client_id (or its own "
            "station.site, line and name)"
        )
