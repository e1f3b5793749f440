"""The loop: source → inspector → outbox, with the publisher beside it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

import lineside
from lineside.errors import FrameError, StorageError
from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.limits import Limits
from lineside.mqtt.payload import encode_verdict, message_of
from lineside.mqtt.publisher import Publisher
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.state import StateMessage, StateWord, make_state
from lineside.mqtt.topics import StationTopics
from lineside.outbox import Draft, Outbox, Stamp
from lineside.sources import Capture, Source
from lineside.station.maps import MapKeeper
from lineside.station.report import RunReport, Tally
from lineside.verdict import Evaluation, Reason, Verdict
from lineside.worker import Worker

# After a signal the station sends what it can for so long; the rest goes out at the next start.
SHUTDOWN_DRAIN_S = 2.0
_JOIN_S = 10.0
# Five pictures at most wait or are being written.
_MAPS_DRAIN_S = 5.0
# Frames that are gone from their source need not be remembered for ever: at ten parts a second that
# would fill the outbox in weeks. Three days cover a share that is away for a weekend, its mount
# point empty, and comes back with the same files.
REMEMBER_GONE_S = 3 * 24 * 3600.0
_FORGET_EVERY_S = 3600.0
# A verdict that is older is of no use to the line: the part is gone.
EXPIRES_AFTER_MS = 10_000


class Inspecting(Protocol):
    """What the loop needs of an inspector: faults of frame and engine are verdicts, not raised.

    The second is asked where pictures are wanted, the first where none are.
    """

    def inspect(self, frame: Frame) -> Verdict: ...
    def inspect_with_map(self, frame: Frame) -> Inspection: ...


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What the birth message says about the model.

    Attributes:
        bundle: the bundle's hash, 64 hex digits.
        unit: of scores and limits.
        limits: what scores are held against, and why; ``None`` where that is not known.
    """

    product: str
    bundle: str
    version: str
    engine: str
    unit: str = ""
    limits: Limits | None = None


class Station:
    """Runs once, from the first frame to the last or to ``stop``.

    Args:
        topics: where it speaks.
        inspector: what judges.
        model: what the state topic says about it.
        source: where frames come from.
        outbox: durable; stays open, the caller closes it.
        mqtt: the broker.
        maps: takes the pictures of parts that are not OK; ``None``: none are made.
        progress: called before each frame and at least once a second while none comes.
    """

    def __init__(
        self,
        *,
        topics: StationTopics,
        inspector: Inspecting,
        model: ModelCard,
        source: Source,
        outbox: Outbox,
        mqtt: MqttSettings,
        maps: MapKeeper | None = None,
        progress: Callable[[Station], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self.outbox = outbox
        self.publisher = Publisher(mqtt, topics=topics, spool=outbox, describe=self._describe)
        self._inspector = inspector
        self._model = model
        self._source = source
        self._maps = maps
        self._progress = progress
        self._stopping = threading.Event()
        self._forget_at_s = 0.0
        self._sender = Worker(self.publisher.run, name="lineside-publisher")

    @property
    def model(self) -> ModelCard:
        """What judges."""
        return self._model

    @property
    def source_fault(self) -> str:
        """Why no frames come just now, ``""`` when all is well."""
        return self._source.fault

    @property
    def map_fault(self) -> str:
        """Why pictures are lost just now, ``""`` when all is well or none are wanted."""
        return "" if self._maps is None else self._maps.fault

    def stop(self) -> None:
        """Finish the current frame and end; from any thread, or from a signal's handler."""
        self._stopping.set()

    def run(self, *, drain_timeout_s: float) -> RunReport:
        """Inspect all, then wait until the broker has acknowledged all.

        What is not acknowledged after ``drain_timeout_s`` stays in the outbox for the next start;
        the report's ``waiting`` counts it.

        Raises:
            InputDataError: the source ended with a fault.
            StorageError: nothing can be written and the source has no more.
        """
        started_s = time.monotonic()
        self.outbox.when_committed(self.publisher.wake)
        self._sender.start()
        if self._maps is not None:
            self._maps.start()
        goodbye = "failed"
        try:
            self._inspect_all()
            stopped = self._stopping.is_set()
            self._drain(0.0 if stopped else drain_timeout_s)
            goodbye = "stopped"
        finally:
            self._end(goodbye)
        return self._report(time.monotonic() - started_s, stopped)

    def _end(self, goodbye: str) -> None:
        try:
            self.outbox.flush(SHUTDOWN_DRAIN_S)
        finally:
            try:
                self.publisher.stop(SHUTDOWN_DRAIN_S, reason=goodbye)
                self._sender.join(_JOIN_S)
            finally:
                if self._maps is not None:
                    self._maps.stop(_MAPS_DRAIN_S)

    def _inspect_all(self) -> None:
        self._look_around()
        for capture in self._source.captures(self._stopping):
            self._look_around()
            if capture is None:
                continue
            inspection = self._judge(capture)
            verdict = inspection.verdict
            draft = _draft(verdict, capture)
            if not self.outbox.put(draft, stopping=self._stopping):
                return
            self.tally.add(verdict, read_us=capture.read_us)
            if self._maps is not None:
                self._maps.offer(capture, inspection)

    def _judge(self, capture: Capture) -> Inspection:
        if capture.frame is None:
            return Inspection(verdict=self._without_frame(capture))
        if self._maps is not None:
            return self._inspector.inspect_with_map(capture.frame)
        return Inspection(verdict=self._inspector.inspect(capture.frame))

    def _without_frame(self, capture: Capture) -> Verdict:
        fault = capture.fault or FrameError("no frame", reason=Reason.FRAME_MISSING.value)
        return Verdict(
            evaluation=Evaluation.NOT_DECIDABLE,
            reason=Reason(fault.reason),
            detail=str(fault),
            unit=self._model.unit,
            product=self._model.product,
            model=self._model.bundle[:16],
            engine=self._model.engine,
            part_id=capture.part_id,
        )

    def _drain(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        durable = False
        while time.monotonic() < deadline_s and not self._stopping.is_set():
            durable = self.outbox.flush(0.2)
            if durable and self.outbox.waiting == 0:
                return
            self._look_around()
            if durable:
                self._stopping.wait(0.02)
        fault = self.outbox.fault
        if not durable and fault is not None and not self._stopping.is_set():
            raise StorageError(f"verdicts could not be written for {timeout_s:g} s: {fault}")

    def _look_around(self) -> None:
        # A thread that died of a fault of ours must end the station: systemd starts it again.
        self._sender.check()
        self.outbox.check()
        self._progress(self)
        if time.monotonic() >= self._forget_at_s:
            self._forget_at_s = time.monotonic() + _FORGET_EVERY_S
            with contextlib.suppress(StorageError):  # as good an hour later
                self.outbox.forget(self._source.identity, self._source.is_gone, REMEMBER_GONE_S)

    def _describe(self) -> StateMessage:
        return msgspec.structs.replace(
            _with_limits(self._condition(), self._model),
            product=self._model.product,
            bundle=self._model.bundle,
            version=self._model.version,
            engine=self._model.engine,
            runtime=lineside.__version__,
            given=self.outbox.given,
            acked=self.outbox.acknowledged,
            queue=self.outbox.waiting,
            maps_lost=0 if self._maps is None else self._maps.lost,
        )

    def _condition(self) -> StateMessage:
        if self.outbox.fault is not None:
            return make_state(StateWord.FAULT, reason=Reason.DISK.value)
        if self._source.fault:
            return make_state(StateWord.FAULT, reason="source")
        return make_state(StateWord.ONLINE)

    def _report(self, duration_s: float, stopped: bool) -> RunReport:
        latencies = {
            **self.tally.stages,
            "handover": self.outbox.handover,
            "delivery": self.outbox.delivery,
        }
        connection = self.publisher.connection
        return RunReport(
            frames=self.tally.frames,
            passed_over=self._source.passed_over,
            evaluations=dict(self.tally.evaluations),
            reasons=dict(self.tally.reasons),
            latency_us={name: times.percentiles() for name, times in latencies.items()},
            waiting=self.outbox.waiting,
            given=self.outbox.given,
            acknowledged=self.outbox.acknowledged,
            reconnects=connection.reconnects,
            connection=connection.detail or "online",
            stopped=stopped,
            duration_s=duration_s,
            maps_written=0 if self._maps is None else self._maps.written,
            maps_lost=0 if self._maps is None else self._maps.lost,
        )


def _draft(verdict: Verdict, capture: Capture) -> Draft:
    expires_unix_ms = capture.taken_unix_ns // 1_000_000 + EXPIRES_AFTER_MS

    def encode(stamp: Stamp) -> bytes:
        return encode_verdict(
            message_of(
                verdict,
                seq=stamp.seq,
                job_id=stamp.job_id,
                part_id=capture.part_id,
                taken_unix_ns=capture.taken_unix_ns,
                expires_unix_ms=expires_unix_ms,
            )
        )

    return Draft(encode=encode, key=capture.key, expires_unix_ms=expires_unix_ms)


def _with_limits(state: StateMessage, model: ModelCard) -> StateMessage:
    limits = model.limits
    if limits is None:
        return state
    override = limits.override
    return msgspec.structs.replace(
        state,
        limits=limits.source,
        unit=model.unit,
        ok=limits.effective.ok_limit,
        not_ok=limits.effective.not_ok_limit,
        sealed_ok=limits.sealed.ok_limit,
        sealed_not_ok=limits.sealed.not_ok_limit,
        limits_by="" if override is None else override.terms.by,
        limits_why="" if override is None else override.terms.reason,
        limits_key="" if override is None else override.signer.key_id.hex(),
    )
