"""The drift monitor of a station: made of what is sealed, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from lineside.bundle import Bundle
from lineside.drift import DRIFT_PART, DriftMonitor, DriftSettings, decode_reference
from lineside.engines import Engine


@dataclass(frozen=True, kw_only=True)
class DriftWatch:
    """What a station has of it.

    Attributes:
        monitor: ``None`` where nothing is watched.
        why_not: the reason, one of ``"disabled"`` and ``"no reference in the bundle"``; ``""``
            where it is watched.
    """

    monitor: DriftMonitor | None
    why_not: str = ""


def open_drift_watch(
    bundle: Bundle, engine: Engine, settings: DriftSettings, *, regions: int = 1
) -> DriftWatch:
    """The monitor for the bundle in the form that is used.

    Args:
        bundle: one that was sealed before there was a reference is no fault.
        engine: that computes.
        settings: section ``[drift]``.
        regions: of a part; each is added to the monitor.

    Raises:
        BundleFormatError: the reference is damaged.
    """
    if not settings.enabled:
        return DriftWatch(monitor=None, why_not="disabled")
    if DRIFT_PART not in bundle.present:
        return DriftWatch(monitor=None, why_not="no reference in the bundle")
    source = f"{bundle.path}: {DRIFT_PART}"
    monitor = DriftMonitor(
        decode_reference(bundle.part(DRIFT_PART), source=source),
        engine=engine.name,
        precision=engine.precision,
        settings=settings,
        regions=regions,
    )
    return DriftWatch(monitor=monitor)
