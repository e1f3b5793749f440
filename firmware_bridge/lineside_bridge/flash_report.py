"""What came of bringing a bundle into a sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lineside_bridge.custom import Device
from lineside_bridge.payload import Payload
from lineside_bridge.trial import Standing
from lineside_bridge.upload import Outcome

# Of the ceiling: what the kernel's buffers hold is not yet on the line when the clock stops.
_MOST_SHARE: Final = 1.1


def share_of_line(bytes_per_s: float, ceiling_bytes_per_s: float | None) -> float | None:
    """How much of what the line carries; ``None``: it has no rate.

    USB and pseudo-terminals take any rate and keep none: what is faster than its rate has none.
    """
    if not ceiling_bytes_per_s:
        return None
    share = bytes_per_s / ceiling_bytes_per_s
    return share if share <= _MOST_SHARE else None


@dataclass(frozen=True, kw_only=True)
class FlashReport:
    """What came of it.

    Attributes:
        already: nothing had to be sent nor tried: it was confirmed before.
        hash: the bundle's, 64 hex digits.
        engine: whose parts were sent; ``""``: all.
        size_bytes: of the copy.
        sent_bytes: of it, over the wire; the sensor had the others.
        lost: requests that had to be sent again.
        took_s: of the sending.
        ceiling_bytes_per_s: what this framing carries at this rate; ``None``: the line has none.
        proof: ``self_test``, or ``answers`` of a sensor that has none.
        state: ``confirmed`` or ``trial``.
    """

    port: str
    serial: str
    hardware: str
    product: str
    version: str
    hash: str
    already: bool
    engine: str
    framing: str
    baud: int
    size_bytes: int
    sent_bytes: int
    resumed_bytes: int
    lost: int
    took_s: float
    ceiling_bytes_per_s: float | None
    proof: str
    state: str

    @property
    def bytes_per_s(self) -> float:
        """Of the file, over the wire."""
        return self.sent_bytes / self.took_s if self.took_s else 0.0

    @property
    def share(self) -> float | None:
        """Of the ceiling; see `share_of_line`."""
        return share_of_line(self.bytes_per_s, self.ceiling_bytes_per_s)


@dataclass(frozen=True, kw_only=True)
class Line:
    """As the file went over it: after its restart a sensor may be at another rate."""

    framing: str
    baud: int
    ceiling_bytes_per_s: float | None


def make_report(
    port: str,
    line: Line,
    device: Device | None,
    payload: Payload,
    outcome: Outcome | None,
    proof: str,
    standing: Standing,
) -> FlashReport:
    """Of one call."""
    return FlashReport(
        port=port,
        serial="" if device is None else device.serial,
        hardware="" if device is None else device.hardware,
        product=payload.manifest.identity.product,
        version=payload.manifest.identity.version,
        hash=payload.hash.hex(),
        already=outcome is None and not proof,
        engine=payload.engine,
        framing=line.framing,
        baud=line.baud,
        size_bytes=len(payload.data),
        sent_bytes=0 if outcome is None else outcome.sent_bytes,
        resumed_bytes=0 if outcome is None else outcome.resumed_bytes,
        lost=0 if outcome is None else outcome.lost,
        took_s=0.0 if outcome is None else round(outcome.took_s, 3),
        ceiling_bytes_per_s=line.ceiling_bytes_per_s,
        proof=proof,
        state=standing.value,
    )
