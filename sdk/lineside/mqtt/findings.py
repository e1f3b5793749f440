"""What speaks against a part, for people and line controllers: the `findings` topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from lineside.mqtt.payload import wire_number, wire_part_id, wire_text
from lineside.verdict import Finding

FINDINGS_VERSION: Final = 1
FINDINGS_LIMIT_BYTES: Final = 4096
"""CODESYS' MQTT client takes no more in one message."""

_NAME_LIMIT_CHARS: Final = 32
# A finding takes 190 bytes at most, what stands around them 160.
_FINDINGS_LIMIT: Final = 20


class WireFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A `Finding` on the wire; what the model does not know is ``null``.

    Attributes:
        at: which region of the frame, ``""`` where it was inspected whole.
        box: columns and rows of the frame, [x0, y0, x1, y1], half-open, pixels.
        area: pixels of the frame.
        peak: in the map's unit.
    """

    name: str
    at: str
    prob: float | None
    box: tuple[int, int, int, int] | None
    area: int | None
    peak: float | None


class FindingsMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message a part that is not OK, where its model can tell what speaks against it.

    Attributes:
        seq, id, part: of the verdict.
        count: of all findings; the strongest stand in ``findings``, 20 at most.
    """

    v: int = FINDINGS_VERSION
    seq: int
    id: str
    part: str
    count: int
    findings: tuple[WireFinding, ...]


def encode_findings(findings: Sequence[Finding], *, seq: int, job_id: str, part_id: str) -> bytes:
    """At most 4,096 bytes of JSON."""
    message = FindingsMessage(
        seq=seq,
        id=job_id,
        part=wire_part_id(part_id),
        count=len(findings),
        findings=tuple(_on_the_wire(finding) for finding in findings[:_FINDINGS_LIMIT]),
    )
    return msgspec.json.encode(message)


def _on_the_wire(finding: Finding) -> WireFinding:
    box = finding.region
    return WireFinding(
        name=wire_text(finding.name, limit_chars=_NAME_LIMIT_CHARS),
        at=wire_text(finding.at, limit_chars=_NAME_LIMIT_CHARS),
        prob=wire_number(finding.probability),
        box=None if box is None else (box.x0_px, box.y0_px, box.x1_px, box.y1_px),
        area=finding.area_px,
        peak=wire_number(finding.peak),
    )
