"""Section ``[trigger]``: who says that a part stands before the camera."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

_Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=600_000)]

# PART or PART;PRODUCT
LINE_PATTERN = r"(?P<part>[^;]*)(?:;(?P<product>[^;]*))?"


class FreeTrigger(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="free",
):
    """``kind = "free"``: nobody; every frame of the source is a part."""


class IntervalTrigger(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="interval",
):
    """``kind = "interval"``: the clock.

    Attributes:
        every_ms: between two triggers.
        frame_timeout_ms: a trigger waits so long for its frame.
    """

    every_ms: Annotated[int, msgspec.Meta(ge=10, le=86_400_000)]
    frame_timeout_ms: _Milliseconds = 500


class _PartTrigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all have in common that tell of one part.

    Attributes:
        delay_ms: cameras: from the trigger to the moment that the part is in place; negative where
            triggers are heard late.
        frame_timeout_ms: a trigger waits so long for its frame, then the part is undecided.
        match: folders: which file belongs to a trigger.
        part_timeout_ms: folders: a file waits so long for its trigger.
        most_waiting: triggers that wait at one time; the next one is undecided at once.
    """

    delay_ms: Annotated[int, msgspec.Meta(ge=-10_000, le=60_000)] = 0
    frame_timeout_ms: _Milliseconds = 500
    match: Literal["part", "next"] | None = None
    part_timeout_ms: _Milliseconds = 2000
    most_waiting: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8

    def __post_init__(self) -> None:
        if self.delay_ms >= self.frame_timeout_ms:
            raise ValueError("frame_timeout_ms must be larger than delay_ms: no frame could match")


class MqttTrigger(_PartTrigger, frozen=True, kw_only=True, tag_field="kind", tag="mqtt"):
    """``kind = "mqtt"``: the topic ``cmd/trigger``."""


class CallTrigger(_PartTrigger, frozen=True, kw_only=True, tag_field="kind", tag="call"):
    """``kind = "call"``: a Python program, by ``Station.trigger``."""


class SerialTrigger(_PartTrigger, frozen=True, kw_only=True, tag_field="kind", tag="serial"):
    """``kind = "serial"``: a line of text on a serial port, from a scanner or a PLC.

    Attributes:
        port: the device; a name below ``/dev/serial/by-id`` stays the same when it is replugged.
        baud: bits a second; 8 data bits, no parity, one stop bit.
        pattern: what a whole line must match; the group ``part`` is the part, ``product``, if it
            has one, the product.
        reconnect_min_s, reconnect_max_s: first and longest pause before the port is opened again.
    """

    port: str
    baud: Annotated[int, msgspec.Meta(ge=50, le=4_000_000)] = 9600
    pattern: str = LINE_PATTERN
    reconnect_min_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.5
    reconnect_max_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s is shorter than reconnect_min_s")
        if not self.port or not self.port.isprintable():
            raise ValueError(f"port {self.port!r} is no device's name")
        try:
            groups = re.compile(self.pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"pattern {self.pattern!r}: {error}") from error
        if "part" not in groups or set(groups) - {"part", "product"}:
            raise ValueError(
                f"pattern {self.pattern!r}: name its groups (?P<part>…) and, if there is one, "
                "(?P<product>…)"
            )


PartTrigger = MqttTrigger | CallTrigger | SerialTrigger
TriggerSettings = FreeTrigger | IntervalTrigger | MqttTrigger | CallTrigger | SerialTrigger
