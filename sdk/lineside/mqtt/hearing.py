"""What a receiver has to do: drop repeated deliveries, notice gaps. Pure, without a broker."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from lineside.mqtt.payload import VerdictMessage
from lineside.mqtt.topics import StationTopics

# A repeated delivery comes within the publisher's window; a PLC needs to remember far fewer.
_IDS_KEPT = 1024
_STATIONS_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What one delivery means.

    Attributes:
        is_repeated: the same id was heard before; act on the first one only.
        missing: sequence numbers that were passed over, first and last; ``None`` when none were.
    """

    is_repeated: bool
    missing: tuple[int, int] | None = None


@dataclass(kw_only=True)
class _Station:
    ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    last_seq: int | None = None
    origin: str = ""


class Hearing:
    """Follows many stations at once, in bounded memory."""

    def __init__(self) -> None:
        self._stations: OrderedDict[StationTopics, _Station] = OrderedDict()

    def hear(self, station: StationTopics, message: VerdictMessage) -> Heard:
        """Judge one delivery.

        A gap is told once, when it is noticed. The first eight digits of an id change when a
        station starts a new outbox; its sequence then begins anew and that is no gap.
        """
        known = self._stations.setdefault(station, _Station())
        self._stations.move_to_end(station)
        while len(self._stations) > _STATIONS_KEPT:
            self._stations.popitem(last=False)
        if message.id in known.ids:
            return Heard(is_repeated=True)
        known.ids[message.id] = None
        while len(known.ids) > _IDS_KEPT:
            known.ids.popitem(last=False)
        return Heard(is_repeated=False, missing=_follow(known, message))


def _follow(known: _Station, message: VerdictMessage) -> tuple[int, int] | None:
    origin = message.id[:8]
    if origin != known.origin or known.last_seq is None:
        known.origin, known.last_seq = origin, message.seq
        return None
    expected = known.last_seq + 1
    known.last_seq = max(known.last_seq, message.seq)
    return (expected, message.seq - 1) if message.seq > expected else None
