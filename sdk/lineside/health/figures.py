"""What the station's parts tell its health: one small callable each, never one that waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lineside.latency import LatencyHistogram
from lineside.mqtt.health import Figure


class HealthModel(msgspec.Struct, frozen=True, kw_only=True):
    """What judges just now.

    Attributes:
        bundle: the bundle's hash, 64 hex digits.
    """

    product: str = ""
    version: str = ""
    bundle: str = ""
    engine: str = ""


class HealthBroker(msgspec.Struct, frozen=True, kw_only=True):
    """How the publisher stands.

    Attributes:
        word: ``online`` when all is well.
        queue: verdicts that wait for the broker.
    """

    word: str = ""
    reconnects: int = 0
    queue: int = 0


def _no_counts() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, kw_only=True)
class HealthSources:
    """Each is called from any thread, about once a second, and must not wait for anything.

    Counters run since the station started and never fall. What a mapping holds is copied at once.

    Attributes:
        evaluations: verdicts by evaluation's name, ``OK`` and so on.
        reasons: verdicts by reason's value.
        latencies: histograms by stage, in the order in which a part passes them.
        model: what judges.
        broker: the publisher and what waits for it.
        faults: what is wrong just now, in words, by what (``disk``, ``source``); empty words or
            no entry: well.
        pressure: parts that gave way, how often the source waited, results that came late.
        source: what the source counts.
        kept: pictures and frames written and lost.
        commands: signed commands done, and those refused by reason.
        drift: figures of the drift monitor, numbers or words.
        trial: what a bundle on trial has done; nothing without one.
        disk: a file or folder on the disk to watch.
    """

    disk: Path
    evaluations: Callable[[], Mapping[str, int]] = _no_counts
    reasons: Callable[[], Mapping[str, int]] = _no_counts
    latencies: Callable[[], Mapping[str, LatencyHistogram]] = field(default=dict)
    model: Callable[[], HealthModel] = HealthModel
    broker: Callable[[], HealthBroker] = HealthBroker
    faults: Callable[[], Mapping[str, str]] = field(default=dict)
    pressure: Callable[[], Mapping[str, int]] = _no_counts
    source: Callable[[], Mapping[str, int]] = _no_counts
    kept: Callable[[], Mapping[str, int]] = _no_counts
    commands: Callable[[], Mapping[str, int]] = _no_counts
    drift: Callable[[], Mapping[str, Figure]] = field(default=dict)
    trial: Callable[[], Mapping[str, int]] = _no_counts
