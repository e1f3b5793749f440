"""Which messages a verdict goes out in: the line's, or history's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lineside.errors import InputDataError
from lineside.mqtt.lanes import WaitingRow
from lineside.mqtt.link import Message
from lineside.mqtt.payload import VerdictMessage, decode_verdict
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.topics import StationTopics

Lane = Literal["live", "history"]


class VerdictMessages:
    """Makes them from what the outbox keeps.

    Args:
        settings: whether packed verdicts and findings are sent.
        topics: where to.
        pack: a verdict as ``verdict/bin`` has it; needed with ``settings.binary``.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: StationTopics,
        pack: Callable[[VerdictMessage], bytes] | None,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._pack = pack

    def of(self, row: WaitingRow, lane: Lane) -> list[Message]:
        """At least one; those after the first the broker may refuse."""
        topics = self._topics
        if lane == "history":
            return [Message(topic=topics.history, payload=row.payload)]
        messages = [Message(topic=topics.verdict, payload=row.payload)]
        if self._settings.binary and (packed := self._packed(row.payload)):
            messages.append(Message(topic=topics.verdict_bin, payload=packed, optional=True))
        if self._settings.findings and row.findings:
            messages.append(Message(topic=topics.findings, payload=row.findings, optional=True))
        return messages

    def _packed(self, payload: bytes) -> bytes:
        if self._pack is None:
            return b""
        try:
            return self._pack(decode_verdict(payload, source="outbox"))
        except InputDataError:
            return b""  # a row of another version: its JSON goes out as it is
