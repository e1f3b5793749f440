"""The loop: source → inspector → outbox, with the publisher beside it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

import lineside
from lineside.errors import StorageError
from lineside.health import Health
from lineside.latency import LatencyHistogram
from lineside.mqtt.binary import pack_verdict
from lineside.mqtt.publisher import Publisher
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.state import StateMessage, StateWord, make_state
from lineside.mqtt.topics import StationTopics
from lineside.outbox import Outbox
from lineside.sources import Capture, Source, trigger_now
from lineside.station.backlog import Backlog
from lineside.station.commanding import Announcer, Commands
from lineside.station.deadline import DeadlineWatch
from lineside.station.drifting import DriftKeeper
from lineside.station.giving import Giver, Judgement, region_entries
from lineside.station.judge import Judge
from lineside.station.keeping import FrameKeeper
from lineside.station.maps import MapKeeper
from lineside.station.pace import Pace
from lineside.station.products import ModelCard, Product, Products
from lineside.station.regions import cut_frames, find_worst
from lineside.station.report import RunReport, Tally
from lineside.station.turn import Turn
from lineside.verdict import Reason
from lineside.worker import Worker

# After a signal the station sends what it can for so long; the rest goes out at the next start.
SHUTDOWN_DRAIN_S = 2.0
_JOIN_S = 10.0
_TICK_S = 0.2
# Five pictures at most wait or are being written.
_KEEPERS_DRAIN_S = 5.0
# Each second while the disk runs full: a second of 1,000 verdicts' journal is 1 MiB.
_ROOM_BYTES = 16 * 2**20
# Frames that are gone from their source need not be remembered for ever: at ten parts a second that
# would fill the outbox in weeks. Three days cover a share that is away for a weekend, its mount
# point empty, and comes back with the same files.
REMEMBER_GONE_S = 3 * 24 * 3600.0
_FORGET_EVERY_S = 3600.0
# So much of what was seen of drift is forgotten by a power cut.
_SAVE_EVERY_S = 600.0


class _End:
    """The source has no more."""


_END: Final = _End()
_EVEN_PACE: Final = Pace()


class Station:
    """Runs once, from the first frame to the last or to ``stop``.

    Frames are taken in a thread of their own, judged in the caller's, stored and sent in two more:
    no stage waits for a later one, as long as the backlog has room.

    Attributes:
        health: hears of its threads and tells systemd; ``None``: nobody watches.

    Args:
        topics: where it speaks.
        products: what judges.
        source: where frames come from.
        outbox: durable; stays open, the caller closes it.
        mqtt: the broker.
        pace: deadline, backlog, expiry.
        maps: takes the pictures of parts that are not OK; ``None``: none are made.
        keeper: takes the frames that are worth keeping; ``None``: none are kept.
        progress: called before each frame and at least once a second while none comes.
    """

    def __init__(
        self,
        *,
        topics: StationTopics,
        products: Products,
        source: Source,
        outbox: Outbox,
        mqtt: MqttSettings,
        pace: Pace = _EVEN_PACE,
        maps: MapKeeper | None = None,
        keeper: FrameKeeper | None = None,
        progress: Callable[[Station], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self.outbox = outbox
        self.products = products
        self._announcer = Announcer(self._tell_changeover, products.active)
        self.drift = DriftKeeper(
            products, outbox.path.with_name(f"{outbox.path.name}.drift"), outbox
        )
        commands = Commands(
            products=products,
            announcer=self._announcer,
            trigger=source.offer,
            journal=outbox,
            mended=self.drift.mended,
        )
        self.publisher = Publisher(
            mqtt,
            topics=topics,
            spool=outbox,
            describe=self._describe,
            handle=commands.handle,
            health=self._describe_health,
            pack=pack_verdict,
        )
        self.maps = maps
        self.keeper = keeper
        self.health: Health | None = None
        self.backlog = Backlog(pace.backlog, pace.policy_for(source))
        self._pace = pace
        self._source = source
        self._progress = progress
        self._stopping = threading.Event()
        self._forget_at_s = 0.0
        self._save_at_s = time.monotonic() + _SAVE_EVERY_S
        self._giver = Giver(
            outbox,
            self.tally,
            expiry_s=pace.expiry_s,
            stopping=self._stopping,
            given=self._keep,
        )
        self._judge = Judge(products)
        self._watch = DeadlineWatch(self._expire, lead_ms=pace.deadline_lead_ms)
        self._sender = Worker(self.publisher.run, name="lineside-publisher")
        self._taker = Worker(self._take_all, name="lineside-source")

    @property
    def model(self) -> ModelCard:
        """What judges just now."""
        return self.products.active.card

    @property
    def latencies(self) -> dict[str, LatencyHistogram]:
        """By stage, in the order in which a part passes them."""
        outbox = self.outbox
        return {**self.tally.stages, "handover": outbox.handover, "delivery": outbox.delivery}

    @property
    def troubles(self) -> dict[str, str]:
        """What is not well just now, in words, by what; ``""`` where all is."""
        connection = self.publisher.connection
        return {
            "broker": "" if connection.word in ("online", "connecting") else connection.detail,
            "disk": str(self.outbox.fault or ""),
            "source": self._source.fault or self._source.warn,
            "maps": "" if self.maps is None else self.maps.fault,
            "keep": "" if self.keeper is None else self.keeper.fault,
            "drift": self.drift.fault,
            "health": "" if self.health is None else self.health.fault,
        }

    @property
    def vital(self) -> dict[str, Callable[[], bool]]:
        """Whether the threads without which no verdict goes out still run."""
        return {
            "publisher": lambda: self._sender.failure is None,
            "deadline": lambda: self._watch.failure is None,
        }

    @property
    def source_counts(self) -> dict[str, int]:
        """What the source counts."""
        return {"passed_over": self._source.passed_over, **self._source.counts}

    @property
    def late(self) -> int:
        """Results that came after their deadline, since the start; the journal has them."""
        return self._giver.late

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
        self.outbox.when_pressed(self._make_room)
        self._sender.start()
        for keeper in self._keepers():
            keeper.start()
        goodbye = "failed"
        try:
            self._look_around()
            self._watch.start()
            self._taker.start()
            if self.health is not None:
                self.health.notifier.ready("inspecting")
            self._inspect_all()
            stopped = self._stopping.is_set()
            self._drain(0.0 if stopped else drain_timeout_s)
            goodbye = "stopped"
        finally:
            self._end(goodbye)
        return self._report(time.monotonic() - started_s, stopped)

    def _end(self, goodbye: str) -> None:
        self._stopping.set()
        if self.health is not None:
            self.health.notifier.stopping()
        self._watch.stop(_JOIN_S)
        self.drift.save()
        try:
            self.outbox.flush(SHUTDOWN_DRAIN_S)
        finally:
            try:
                self.publisher.stop(SHUTDOWN_DRAIN_S, reason=goodbye)
                self._sender.join(_JOIN_S)
            finally:
                for keeper in self._keepers():
                    keeper.stop(_KEEPERS_DRAIN_S)

    def _keepers(self) -> list[MapKeeper | FrameKeeper]:
        return [keeper for keeper in (self.maps, self.keeper) if keeper is not None]

    def _make_room(self) -> None:
        """The disk runs full: what was kept of frames is worth less than the journal."""
        if self.keeper is not None:
            self.keeper.free_room(_ROOM_BYTES, beside=self.outbox.path)

    def _take_all(self) -> None:
        """The source's thread: each capture becomes a turn that waits for the inspection."""
        captures = self._source.captures(self._stopping)
        try:
            while True:
                self._beat("source")
                self.backlog.wait_for_room(self._stopping, lambda: self._beat("source"))
                capture = next(captures, _END)
                if isinstance(capture, _End):
                    return
                if capture is not None:
                    self._begin(capture)
        finally:
            if self.health is not None:
                self.health.watchdog.retire("source")
            self.backlog.close()

    def _begin(self, capture: Capture) -> None:
        product = self.products.find(capture.product)
        turn = Turn(capture, product, deadline_ms=self._pace.deadline_ms)
        self._watch.add(turn)
        given_way = self.backlog.put(turn)
        if given_way is not None:
            product = self._judge.product_of(given_way)
            self._giver.give_fault(
                given_way,
                product,
                Reason.OVERLOAD,
                "others were waiting",
                meanwhile=lambda: self._beat("source"),
            )
        turn.frame_sha256()  # here, beside the inspection

    def _expire(self, turn: Turn) -> None:
        """The deadline's thread."""
        product = self._judge.product_of(turn)
        told = f"nothing was decided within {self._pace.deadline_ms:g} ms"
        self._giver.give_fault(turn, product, Reason.DEADLINE, told)

    def _inspect_all(self) -> None:
        while True:
            self._look_around()
            turn = self.backlog.take(_TICK_S)
            if turn is None:
                if self.backlog.closed:
                    break
                continue
            # What can come again is judged at the next start; what cannot, now.
            if self._stopping.is_set() and _comes_again(turn.capture):
                continue
            # Too late already: the time is better spent on the next one.
            if not turn.ended:
                self._inspect(turn)
        self._taker.check()

    def _inspect(self, turn: Turn) -> None:
        if turn.product is not None:
            self._announcer.announce(turn.product)
        judgement = self._judge.judge(turn)
        self._giver.give(turn, judgement, meanwhile=lambda: self._beat("inspection"))

    def _keep(self, turn: Turn, judgement: Judgement) -> None:
        """In the thread that gave the verdict; the line has not waited for it."""
        self._draw(turn, judgement)
        drifting = self.drift.add(turn, judgement)
        if self.keeper is not None:
            self.keeper.offer(
                turn.capture,
                judgement.verdict,
                turn=turn.id,
                drifting=drifting,
                regions=region_entries(judgement),
            )

    def _draw(self, turn: Turn, judgement: Judgement) -> None:
        frame, product = turn.capture.frame, judgement.product
        if self.maps is None or frame is None or product.contract is None:
            return
        if judgement.inspections:
            worst = find_worst(judgement.inspections, product.rule)
            seen = cut_frames(frame, product.regions)[worst]
            self.maps.offer(turn.capture, seen, judgement.inspections[worst], product.contract)

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
        self._watch.check()
        self.outbox.check()
        self._beat("inspection")
        self._progress(self)
        if time.monotonic() >= self._forget_at_s:
            self._forget_at_s = time.monotonic() + _FORGET_EVERY_S
            with contextlib.suppress(StorageError):  # as good an hour later
                self.outbox.forget(self._source.identity, self._source.is_gone, REMEMBER_GONE_S)
        if time.monotonic() >= self._save_at_s:
            self._save_at_s = time.monotonic() + _SAVE_EVERY_S
            self.drift.save()

    def _beat(self, thread: str) -> None:
        if self.health is not None:
            self.health.watchdog.beat(thread)

    def trigger(self, part_id: str, product: str = "") -> bool:
        """A part stands before the camera; from any thread.

        Args:
            part_id: the physical part, ``""`` where unknown.
            product: which bundle judges it; ``""``: the one that is in use.

        Returns:
            ``False``: the source takes no triggers, or too many wait; no verdict will come of it.
        """
        return self._source.offer(trigger_now(part_id, product or self.products.active.name))

    def _tell_changeover(self, product: Product) -> threading.Event:
        return self.publisher.tell(cmd="changeover", detail=product.name)

    def _describe_health(self) -> bytes:
        return b"" if self.health is None else self.health.payload()

    def _describe(self) -> StateMessage:
        model = self.model
        return msgspec.structs.replace(
            _with_limits(self._condition(), model),
            product=model.product,
            bundle=model.bundle,
            version=model.version,
            engine=model.engine,
            runtime=lineside.__version__,
            given=self.outbox.given,
            acked=self.outbox.acknowledged,
            queue=self.outbox.waiting,
            maps_lost=0 if self.maps is None else self.maps.lost,
        )

    def _condition(self) -> StateMessage:
        if self.outbox.fault is not None:
            return make_state(StateWord.FAULT, reason=Reason.DISK.value)
        if self._source.fault:
            return make_state(StateWord.FAULT, reason="source")
        warn = self.outbox.pressure or ("source" if self._source.warn else "")
        warn = warn or ("drift" if self.drift.alarm else "")
        return msgspec.structs.replace(make_state(StateWord.ONLINE), warn=warn)

    def _report(self, duration_s: float, stopped: bool) -> RunReport:
        connection = self.publisher.connection
        return RunReport(
            frames=self.tally.frames,
            passed_over=self._source.passed_over,
            evaluations=dict(self.tally.evaluations),
            reasons=dict(self.tally.reasons),
            latency_us={name: times.percentiles() for name, times in self.latencies.items()},
            waiting=self.outbox.waiting,
            given=self.outbox.given,
            acknowledged=self.outbox.acknowledged,
            reconnects=connection.reconnects,
            connection=connection.detail or "online",
            stopped=stopped,
            duration_s=duration_s,
            maps_written=0 if self.maps is None else self.maps.written,
            maps_lost=0 if self.maps is None else self.maps.lost,
        )


def _comes_again(capture: Capture) -> bool:
    """A file does, at the next start; the trigger that it belongs to does not."""
    return capture.key is not None and not capture.triggered


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
