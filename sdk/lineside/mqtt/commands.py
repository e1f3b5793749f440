"""What a station is told over MQTT, and what it answers: `cmd/…` and `ack`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec


class TriggerCommand(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="trigger"):
    """``cmd/trigger``: a part stands before the camera.

    Attributes:
        id: of the command, by the sender; the answer has the same, a repeated one is dropped.
        part: the physical part, ``""`` where unknown.
        product: which bundle judges it; ``""``: the one that is in use.
    """

    id: str = ""
    part: str = ""
    product: str = ""


class ChangeoverCommand(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="changeover"
):
    """``cmd/changeover``: from now on parts are of another product."""

    id: str = ""
    product: str


class DispositionCommand(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="disposition"
):
    """``cmd/disposition``: a human has looked at a part.

    Attributes:
        verdict: the `id` of the verdict it is about; or ``part``, one of both.
        evaluation: 1 OK or 2 NOT_OK, what the human says.
        defect: which kind, in the trainer's words; ``""`` where there is none or it is unknown.
        by: who looked.
        note: in words.
    """

    id: str = ""
    verdict: str = ""
    part: str = ""
    evaluation: int
    defect: str = ""
    by: str = ""
    note: str = ""


Command = TriggerCommand | ChangeoverCommand | DispositionCommand


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the station says to a command.

    Attributes:
        ok: it was or will be done.
        detail: why not, in words.
        then: called once the answer is on its way to the broker, or cannot be.
    """

    ok: bool
    detail: str = ""
    then: Callable[[], None] = field(default=_nothing)


CommandHandler = Callable[[Command], Answer]
"""Called in the publisher's thread; must be quick and not raise."""
