"""The drift monitor of a station: made of what is sealed, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Bundle
from lineside.contract import FrameSpec
from lineside.drift import (
    DRIFT_PART,
    EMBEDDING_OUTPUT,
    DriftMonitor,
    DriftSettings,
    PartStatistics,
    decode_reference,
    measure_picture,
)
from lineside.engines import Engine
from lineside.errors import FrameError
from lineside.frame import Pixels


@dataclass(frozen=True, kw_only=True)
class DriftWatch:
    """What a station has of it.

    Attributes:
        monitor: ``None`` where nothing is watched.
        why_not: the reason, one of ``"disabled"`` and ``"no reference"``; ``""``
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
        return DriftWatch(monitor=None, why_not="no reference")
    source = f"{bundle.path}: {DRIFT_PART}"
    monitor = DriftMonitor(
        decode_reference(bundle.part(DRIFT_PART), source=source),
        engine=engine.name,
        precision=engine.precision,
        settings=settings,
        regions=regions,
    )
    return DriftWatch(monitor=monitor)


def drift_figures(watch: DriftWatch) -> dict[str, float | int | str | None]:
    """What the health says of drift: at most ten figures, flat.

    ``watch`` is ``on`` or why not; ``alarm`` the names of the statistics with an alarm; ``since``
    the part with which the oldest of their drifts began; ``recent`` and ``usual`` the medians, now
    and of the reference, of the statistic that is furthest off; then each one's ``level``, 0 to 1.
    """
    if watch.monitor is None:
        return {"watch": watch.why_not}
    statistics = watch.monitor.state.statistics
    raised = [statistic for statistic in statistics if statistic.alarm]
    furthest = max(raised or statistics, key=lambda statistic: statistic.level)
    return {
        "watch": "on",
        "alarm": " ".join(statistic.name for statistic in raised),
        "since": min((statistic.since for statistic in raised), default=0),
        "recent": furthest.recent,
        "usual": furthest.usual,
        **{f"{statistic.name}_level": statistic.level for statistic in statistics},
    }


def part_statistics(
    pixels_hwc: Pixels,
    spec: FrameSpec,
    *,
    score: float | None,
    outputs: Mapping[str, NDArray[np.float32]],
) -> PartStatistics:
    """What the monitor takes of one part, or of one region.

    Args:
        pixels_hwc: (H, W, C) of the region, as the model was given them, before any resize.
        spec: of the contract.
        score: of the verdict; ``None`` where it has none.
        outputs: of the inspection, by name, without the batch axis; empty where nothing was
            computed.
    """
    try:
        picture = measure_picture(pixels_hwc, spec)
    except FrameError:
        # The verdict says so; a frame that is none says nothing of drift.
        picture = None
    distance = outputs.get(EMBEDDING_OUTPUT)
    embedding = None if distance is None else float(distance)
    return PartStatistics(
        score=score,
        embedding=None if embedding is None or math.isnan(embedding) else embedding,
        picture=picture,
    )
