"""What a conversation with a station hears, and what it says is to be done. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lineside.mqtt.commands import AckMessage
from lineside.remote.chunk import CHUNK_BYTES
from lineside.remote.window import Stretch


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The connection stands, and answers will be heard."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """There is no connection, and why; what was on its way may be lost."""

    words: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The broker has a message of ours."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An answer of the station.

    Attributes:
        clock_gap_s: how far the station's clock was ahead of ours when it came.
    """

    ack: AckMessage
    clock_gap_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Back:
    """The station has come back: what it was told before may be forgotten."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time has gone by; at least once a second.

    Attributes:
        waits: something of this conversation has not been taken by the broker yet: the station
            cannot answer what it has not heard.
    """

    waits: bool = False


Event = Joined | Lost | Taken | Heard | Back | Tick


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Sign the command by this id with a new nonce and new times, and publish it.

    What was to be sent before and has not left yet is to be forgotten.
    """

    command_id: str


@dataclass(frozen=True, kw_only=True)
class Send:
    """Publish this stretch of the file.

    Attributes:
        anew: what was to be sent before and has not left yet is to be forgotten.
    """

    stretch: Stretch
    anew: bool = False


FaultKind = Literal["refused", "silent", "broker", "stuck"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why there is no good answer.

    Attributes:
        kind: ``refused`` by the station; ``silent``: no answer; ``broker``: it cannot be reached or
            takes nothing; ``stuck``: the station answers and gets no further.
        words: the station's, the broker's, or ours.
        clock_gap_s: of a refusal: how far the station's clock was ahead of ours.
    """

    kind: FaultKind
    words: str
    clock_gap_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class End:
    """It is over: one of both."""

    ack: AckMessage | None = None
    fault: Fault | None = None


Action = Ask | Send | End


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What an installation sends.

    Attributes:
        size_bytes: of the file; 0: the station finds out.
        fetched: the station downloads it, so that nothing is sent.
        chunk_bytes: of a stretch, at most.
    """

    size_bytes: int
    fetched: bool = False
    chunk_bytes: int = CHUNK_BYTES
