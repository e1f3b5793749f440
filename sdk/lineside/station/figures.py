"""What a station tells its health about itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.health import HealthBroker, HealthModel, HealthSources

if TYPE_CHECKING:
    from lineside.station.loop import Station


def health_sources(station: Station, disk: Path) -> HealthSources:
    """Small callables, none of which waits.

    Args:
        station: tells.
        disk: a file on the disk that the outbox is on.
    """
    return HealthSources(
        disk=disk,
        evaluations=lambda: station.tally.evaluations,
        reasons=lambda: station.tally.reasons,
        latencies=lambda: station.latencies,
        model=lambda: _model(station),
        broker=lambda: _broker(station),
        faults=lambda: station.troubles,
        pressure=lambda: _pressure(station),
        source=lambda: _source(station),
        kept=lambda: _kept(station),
        commands=lambda: station.control.counts,
        drift=lambda: station.keepers.drift.figures,
        trial=lambda: station.slotting.figures,
    )


def _model(station: Station) -> HealthModel:
    card = station.model
    return HealthModel(
        product=card.product, version=card.version, bundle=card.bundle, engine=card.engine
    )


def _broker(station: Station) -> HealthBroker:
    connection = station.publisher.connection
    return HealthBroker(
        word=connection.word, reconnects=connection.reconnects, queue=station.outbox.waiting
    )


def _pressure(station: Station) -> Mapping[str, int]:
    return {
        "gave_way": station.backlog.gave_way,
        "source_waited": station.backlog.waited,
        "late": station.giver.late,
        "late_lost": station.giver.late_lost,
    }


def _source(station: Station) -> Mapping[str, int]:
    source = station.source
    return {"passed_over": source.passed_over, **source.counts}


def _kept(station: Station) -> Mapping[str, int]:
    maps, frames = station.keepers.maps, station.keepers.frames
    counts = {} if maps is None else {"maps_written": maps.written, "maps_lost": maps.lost}
    if frames is not None:
        counts |= {"frames_written": frames.written, "frames_lost": frames.lost}
    return counts
