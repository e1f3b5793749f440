"""Watches what parts look like against what is sealed, and says when it is no longer the same."""

from __future__ import annotations

import hashlib
import threading
from typing import Annotated, Final, Literal

import msgspec

from lineside.drift.evidence import REFERENCE_RISK
from lineside.drift.picture import PictureStatistics
from lineside.drift.reference import DriftReference, Name, encode_reference
from lineside.drift.settings import DriftSettings
from lineside.drift.watch import Count, Memory, StatisticState, Watch
from lineside.errors import InputDataError

_MOST_SAVED_BYTES: Final = 2**20


class PartStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched of one part, or of one region where a part has several.

    Attributes:
        score: of its verdict, in the rule's unit; ``None`` where there is none.
        embedding: the graph's output `EMBEDDING_OUTPUT`; ``None`` likewise.
        picture: of its pixels; ``None`` where the frame could not be used.
    """

    score: float | None = None
    embedding: float | None = None
    picture: PictureStatistics | None = None

    def by_name(self) -> dict[Name, float | None]:
        """Each statistic's value."""
        picture = self.picture
        return {
            "score": self.score,
            "embedding": self.embedding,
            "light": None if picture is None else picture.light,
            "clipping": None if picture is None else picture.clipping,
            "focus": None if picture is None else picture.focus,
        }


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """Where all stand.

    Attributes:
        alarm: any statistic's alarm is raised.
        parts: how many were added, over restarts.
        parts_per_false_alarm: what is promised, see `DriftMonitor`.
        statistics: those that are watched, in a fixed order.
    """

    alarm: bool
    parts: int
    parts_per_false_alarm: float
    statistics: tuple[StatisticState, ...]


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    about: bytes
    parts: Count
    watches: Annotated[tuple[Memory, ...], msgspec.Meta(max_length=8)]


class DriftMonitor:
    """Tells whether production still looks as it did when the model was made.

    The promise: while every block's expected place among the reference is within the settings'
    tolerance of even, given all blocks before it, the first alarm of any statistic comes after
    ``parts_per_false_alarm`` parts on average, at the earliest. Parts that are drawn independently
    from what the reference was drawn from are within it, with a probability of 99 % over the draw
    of the reference. An alarm stays until `reset`.

    No clock, no IO, memory that does not grow; any thread may call.

    Args:
        reference: of the bundle.
        engine: that computes, e.g. ``openvino``.
        precision: of the form in use, e.g. ``int8``. Of a form that the reference does not know
            pictures alone are watched.
        settings: of the station.
        regions: how many a part has; each of them is added.
    """

    def __init__(
        self,
        reference: DriftReference,
        *,
        engine: str,
        precision: str,
        settings: DriftSettings | None = None,
        regions: int = 1,
    ) -> None:
        self._settings = settings or DriftSettings()
        self._reference = reference
        self._spreads = reference.spreads(engine, precision)
        self._regions = regions
        self._about = hashlib.sha256(
            msgspec.msgpack.encode(
                [encode_reference(reference), engine, precision, self._settings, regions]
            )
        ).digest()
        self._parts = 0
        self._lock = threading.Lock()
        self._watches = self._start({})

    def add(self, part: PartStatistics, *, part_id: str = "") -> None:
        """Take one part; what it has no value of is passed over.

        Args:
            part: its statistics.
            part_id: kept where this part raises an alarm.
        """
        with self._lock:
            self._parts += 1
            values = part.by_name()
            for name, watch in self._watches.items():
                value = values[name]
                if value is not None:
                    watch.add(value, number=self._parts, part_id=part_id)

    def is_drifting(self, part: PartStatistics) -> bool:
        """Whether to keep this part's frame as one that shows a drift.

        True where a statistic has an alarm, or half of an alarm's evidence on a logarithmic scale,
        and this part lies further out, on the side that evidence points to, than nineteen of twenty
        of the reference.
        """
        with self._lock:
            values = part.by_name()
            for name, watch in self._watches.items():
                value = values[name]
                if value is not None and watch.is_beyond(value):
                    return True
        return False

    @property
    def alarms(self) -> tuple[Name, ...]:
        """The statistics with an alarm; quicker than `state`."""
        with self._lock:
            return tuple(name for name, watch in self._watches.items() if watch.alarm)

    @property
    def state(self) -> DriftState:
        """Where all statistics stand."""
        with self._lock:
            statistics = tuple(watch.state for watch in self._watches.values())
            return DriftState(
                alarm=any(statistic.alarm for statistic in statistics),
                parts=self._parts,
                parts_per_false_alarm=float(self._settings.parts_per_false_alarm),
                statistics=statistics,
            )

    def reset(self) -> None:
        """Take all alarms back and forget all evidence: after the cause was mended."""
        with self._lock:
            for watch in self._watches.values():
                watch.reset()

    def save(self) -> bytes:
        """Everything that a restart must not forget, some kilobytes."""
        with self._lock:
            memories = tuple(watch.memory for watch in self._watches.values())
            return msgspec.msgpack.encode(
                _Saved(about=self._about, parts=self._parts, watches=memories)
            )

    def restore(self, data: bytes) -> None:
        """Go on from where `save` was called.

        Raises:
            InputDataError: damaged, or saved with another bundle, form or settings; the monitor
                stays as it was.
        """
        try:
            if len(data) > _MOST_SAVED_BYTES:
                raise ValueError(f"{len(data)} bytes")
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except (msgspec.DecodeError, ValueError) as error:
            raise InputDataError(f"drift: what was saved is damaged: {error}") from error
        if saved.about != self._about or [m.name for m in saved.watches] != list(self._spreads):
            raise InputDataError(
                "drift: what was saved is of another bundle, form or [drift] settings: watching "
                "begins anew"
            )
        with self._lock:
            self._parts = saved.parts
            self._watches = self._start({memory.name: memory for memory in saved.watches})

    def _start(self, memories: dict[Name, Memory]) -> dict[Name, Watch]:
        return {
            name: Watch(
                spread,
                parts=self._reference.parts,
                settings=self._settings,
                values_per_false_alarm=self._settings.parts_per_false_alarm * self._regions,
                watched=len(self._spreads),
                memory=memories.get(name) or Memory(name=name),
            )
            for name, spread in self._spreads.items()
        }


def tell_promise(settings: DriftSettings, reference: DriftReference) -> str:
    """For people: what is promised, in one line."""
    return (
        f"a false alarm in {settings.parts_per_false_alarm:,} parts at most on average, "
        f"{1.0 - REFERENCE_RISK:.0%} sure, by {reference.parts:.0f} {reference.of} parts"
    )
