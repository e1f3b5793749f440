"""The station's health: looked at once a second by a thread of its own, told whenever asked.

Nothing is counted on the way of a part: what the station counts anyway is read here. Sensors and
disks may hang; only this thread waits for them, and what it last saw is then no longer told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

import lineside
from lineside.health.faults import FaultLog
from lineside.health.figures import HealthSources
from lineside.health.machine import MachineFigures, look_at_machine
from lineside.health.recent import RecentLatency, RecentRate
from lineside.latency import LatencyHistogram
from lineside.mqtt.health import HealthMessage, StageFigures
from lineside.worker import Worker

_LOOK_S: Final = 1.0
_MACHINE_S: Final = 5.0
_STALE_S: Final = 30.0
_STAGES_LIMIT: Final = 16


class HealthSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is told at one moment.

    Attributes:
        message: for the health topic.
        active: what is wrong just now, in words, by what.
        fault_counts: faults by what, since the start.
    """

    message: HealthMessage
    active: Mapping[str, str]
    fault_counts: Mapping[str, int]


class HealthMonitor:
    """Thread-safe; ``snapshot`` never waits for a disk or a sensor.

    Args:
        sources: what the station's parts tell.
        look: reads the machine.
        clock_s: monotonic, seconds.
    """

    def __init__(
        self,
        sources: HealthSources,
        *,
        look: Callable[[], MachineFigures] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.faults = FaultLog()
        self._sources = sources
        self._look_at_machine = look or (lambda: look_at_machine(sources.disk))
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._machine = MachineFigures()
        self._machine_at_s: float | None = None
        self._recent: dict[str, RecentLatency] = {}
        self._rate = RecentRate()
        self._lock = threading.Lock()
        self._stages: dict[str, StageFigures] = {}
        self._parts_per_min = 0.0
        self._stopping = threading.Event()
        self._worker = Worker(self._run, name="lineside-health")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread; one that a disk holds is left behind."""
        self._stopping.set()
        self._worker.join(timeout_s)

    @property
    def fault(self) -> str:
        """Why figures are old, ``""`` when all is well."""
        failure = self._worker.failure
        return "" if failure is None else f"no more figures until the next start: {failure!r}"

    def look(self) -> None:
        """Once around; the thread calls it each second, a test may in its place."""
        now_s = self._clock_s()
        self.faults.hold(self._sources.faults())
        parts_per_min = self._rate.look(sum(self._sources.evaluations().values()), now_s)
        stages = self._look_at_stages(dict(self._sources.latencies()), now_s)
        with self._lock:
            self._stages, self._parts_per_min = stages, parts_per_min
        if self._machine_at_s is None or now_s - self._machine_at_s >= _MACHINE_S:
            self._machine = self._look_at_machine()
            self._machine_at_s = self._clock_s()

    def snapshot(self) -> HealthSnapshot:
        """What the last look saw, with the counters of this moment."""
        active = dict(self.faults.active)
        if self.fault:
            active["health"] = self.fault
        return HealthSnapshot(
            message=self._message(), active=active, fault_counts=self.faults.counts()
        )

    def _look_at_stages(
        self, histograms: Mapping[str, LatencyHistogram], now_s: float
    ) -> dict[str, StageFigures]:
        found = {}
        for name, histogram in list(histograms.items())[:_STAGES_LIMIT]:
            recent = self._recent.get(name)
            if recent is None:
                if len(self._recent) >= _STAGES_LIMIT:
                    continue
                recent = self._recent[name] = RecentLatency()
            found[name] = recent.look(histogram, now_s)
        return found

    def _message(self) -> HealthMessage:
        sources, model, broker = self._sources, self._sources.model(), self._sources.broker()
        counts = dict(sources.evaluations())
        machine, now_s = self._fresh_machine(), self._clock_s()
        with self._lock:
            stages, parts_per_min = self._stages, self._parts_per_min
        return HealthMessage(
            t=time.time_ns() // 1_000_000,
            up_s=int(now_s - self._started_s),
            runtime=lineside.__version__,
            product=model.product,
            version=model.version,
            model=model.bundle,
            engine=model.engine,
            broker=broker.word,
            reconnects=broker.reconnects,
            queue=broker.queue,
            parts=sum(counts.values()),
            parts_per_min=round(parts_per_min, 1),
            ok=counts.get("OK", 0),
            not_ok=counts.get("NOT_OK", 0),
            not_decidable=counts.get("NOT_DECIDABLE", 0),
            undefined=counts.get("UNDEFINED", 0),
            rss_bytes=machine.resident_bytes,
            ram_bytes=machine.available_bytes,
            disk_bytes=machine.free_bytes,
            clock_synced=machine.clock_synced,
            temp_c=max(machine.temperatures_c.values(), default=None),
            temp=machine.temperatures_c,
            lat=stages,
            reason=dict(sources.reasons()),
            pressure=dict(sources.pressure()),
            source=dict(sources.source()),
            kept=dict(sources.kept()),
            commands=dict(sources.commands()),
            drift=dict(sources.drift()),
            trial=dict(sources.trial()),
            faults=self.faults.last(),
        )

    def _fresh_machine(self) -> MachineFigures:
        seen_s = self._machine_at_s
        is_fresh = seen_s is not None and self._clock_s() - seen_s < _STALE_S
        return self._machine if is_fresh else MachineFigures()

    def _run(self) -> None:
        while True:
            self.look()
            if self._stopping.wait(_LOOK_S):
                return
