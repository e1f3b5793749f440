"""The loop: source → inspector → outbox, with the publisher beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from lineside.errors import InputDataError, StorageError
from lineside.health import Health
from lineside.latency import LatencyHistogram
from lineside.mqtt.binary import pack_verdict
from lineside.mqtt.publisher import Publisher
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.topics import StationTopics
from lineside.outbox import Outbox
from lineside.sources import Source, trigger_now
from lineside.station.backlog import Backlog
from lineside.station.commanding import Announcer
from lineside.station.control import Control, ControlSettings
from lineside.station.deadline import DeadlineWatch
from lineside.station.describing import describe_run, describe_state
from lineside.station.giving import Giver, words_of_lost
from lineside.station.housekeeping import Housekeeper
from lineside.station.intake import Intake
from lineside.station.judge import Judge
from lineside.station.keepers import Keepers
from lineside.station.keeping import FrameKeeper
from lineside.station.maps import MapKeeper
from lineside.station.pace import Pace
from lineside.station.products import ModelCard, Product, Products
from lineside.station.report import RunReport, Tally
from lineside.station.slotting import Slotting
from lineside.station.surrounding import surroundings
from lineside.station.turn import Turn
from lineside.verdict import Reason
from lineside.worker import Worker

# After a signal the station sends what it can for so long; the rest goes out at the next start.
SHUTDOWN_DRAIN_S = 2.0
_JOIN_S = 10.0
_TICK_S = 0.2
# A share that does not answer must not hold up the goodbye.
_HOUSEKEEPING_S = 1.0
_EVEN_PACE: Final = Pace()
_NO_KEYS: Final = ControlSettings()
# As of `cmd/trigger`.
_TEXT_LIMIT_CHARS: Final = 128


class Station:
    """Runs once, from the first frame to the last or to ``stop``.

    Frames are taken in a thread of their own, judged in the caller's, stored and sent in two more:
    no stage waits for a later one, as long as the backlog has room.

    Attributes:
        health: hears of its threads and tells systemd; ``None``: nobody watches.
        slotting: confirms and takes back bundles of a store.

    Args:
        topics: where it speaks.
        products: what judges.
        source: where frames come from.
        outbox: durable; stays open, the caller closes it.
        mqtt: the broker.
        pace: deadline, backlog, expiry.
        maps: takes the pictures of parts that are not OK; ``None``: none are made.
        frames: takes the frames that are worth keeping; ``None``: none are kept.
        control: who may tell it what.
        slotting: follows the stores that bundles come from; ``None``: there are none.
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
        frames: FrameKeeper | None = None,
        control: ControlSettings = _NO_KEYS,
        slotting: Slotting | None = None,
        progress: Callable[[Station], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self.outbox = outbox
        self.products = products
        self.source = source
        self.slotting = slotting or Slotting(products)
        self.keepers = Keepers(products, outbox, maps=maps, frames=frames)
        self.health: Health | None = None
        self._pace = pace
        self._progress = progress
        self._stopping = threading.Event()
        # The line believes the first one, until a changeover or the first part says else.
        self._announcer = Announcer(self._tell_changeover, products.active)
        self.control = self._make_control(control, topics)
        self.control.slotting = self.slotting if self.slotting.has_stores else None
        self.publisher = self._make_publisher(mqtt, topics)
        self.backlog = Backlog(pace.backlog, pace.policy_for(source))
        self.giver = Giver(
            outbox,
            self.tally,
            expiry_s=pace.expiry_s,
            stopping=self._stopping,
            given=self.keepers.keep,
        )
        self.judge = Judge(products, self.control.pause)
        self._watch = DeadlineWatch(self._expire, lead_ms=pace.lead_ms)
        self._sender = Worker(self.publisher.run, name="lineside-publisher")
        self._intake = self._make_intake()
        self._housekeeper = Housekeeper(source, outbox, self.keepers.drift.save)
        self._stopped_s = 0.0

    def _make_intake(self) -> Intake:
        return Intake(
            self.source,
            self.products,
            backlog=self.backlog,
            watch=self._watch,
            giver=self.giver,
            pace=self._pace,
            stopping=self._stopping,
            beat=lambda: self._beat("source"),
            ended=lambda: self._retire("source"),
        )

    def _make_control(self, settings: ControlSettings, topics: StationTopics) -> Control:
        return Control(
            topics=topics,
            products=self.products,
            outbox=self.outbox,
            settings=settings,
            announcer=self._announcer,
            trigger=self.source.offer,
            mended=self.keepers.drift.mended,
            publisher=lambda: self.publisher,
        )

    def _make_publisher(self, mqtt: MqttSettings, topics: StationTopics) -> Publisher:
        return Publisher(
            mqtt,
            topics=topics,
            spool=self.outbox,
            describe=lambda: describe_state(self),
            handle=self.control.handle,
            remote=self.control.take,
            health=self._describe_health,
            pack=pack_verdict,
        )

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
            "source": self.source.fault or self.source.warn,
            **self.keepers.troubles,
            "commands": self.control.fault,
            "slots": self.slotting.trouble,
            "health": "" if self.health is None else self.health.fault,
        }

    @property
    def vital(self) -> dict[str, Callable[[], bool]]:
        """Whether the threads without which no verdict goes out still run."""
        return {
            "publisher": lambda: self._sender.failure is None,
            "deadline": lambda: self._watch.failure is None,
        }

    def stop(self) -> None:
        """Finish the current frame and end; from any thread, or from a signal's handler."""
        self._stopping.set()

    def run(self, *, drain_timeout_s: float) -> RunReport:
        """Inspect all, then wait until the broker has acknowledged all.

        What is not acknowledged after ``drain_timeout_s`` stays in the outbox for the next start;
        the report's ``waiting`` counts it.

        Raises:
            InputDataError: the source ended with a fault.
            StorageError: nothing can be written and the source has no more, or it was told to stop.
        """
        started_s = time.monotonic()
        self.outbox.when_committed(self.publisher.wake)
        self.outbox.when_pressed(lambda: self.keepers.make_room(self.outbox.path))
        self._sender.start()
        self.control.start()
        self.keepers.start()
        goodbye = "failed"
        try:
            self._look_around()
            self._watch.start()
            self._housekeeper.start()
            self.slotting.start(surroundings(self))
            self._intake.start()
            if self.health is not None:
                self.health.notifier.ready("inspecting")
            self._inspect_all()
            stopped = self._stopping.is_set()
            self._drain(0.0 if stopped else drain_timeout_s)
            goodbye = "stopped"
        finally:
            self._end(goodbye)
        # A slow disk gets its time, after the line has heard the goodbye.
        durable = self.outbox.flush(0.0 if self.outbox.fault else _JOIN_S)
        if self.giver.lost or not durable:
            raise StorageError(words_of_lost(self.giver.lost, self.outbox))
        return describe_run(self, duration_s=time.monotonic() - started_s, stopped=stopped)

    def _end(self, goodbye: str) -> None:
        self._stopping.set()
        if self.health is not None:
            self.health.notifier.stopping()
        self._watch.stop(_JOIN_S)
        self._housekeeper.stop(_HOUSEKEEPING_S)
        self.control.stop()
        self.slotting.stop()
        self.keepers.drift.save()
        try:
            self.outbox.flush(SHUTDOWN_DRAIN_S)
        finally:
            try:
                self.publisher.stop(SHUTDOWN_DRAIN_S, reason=goodbye)
                self._sender.join(_JOIN_S)
            finally:
                self.keepers.stop()

    def _expire(self, turn: Turn) -> None:
        """The deadline's thread."""
        self.giver.expire(turn, self.judge.product_of(turn))

    def _inspect_all(self) -> None:
        while True:
            self._look_around()
            turn = self.backlog.take(_TICK_S)
            if turn is None:
                if self.backlog.closed or self._is_overdue():
                    break
                continue
            # What can come again is judged at the next start; what cannot, now.
            if self._stopping.is_set() and turn.comes_again:
                continue
            # Too late already: the time is better spent on the next one.
            if not turn.ended:
                self._inspect(turn)
        self._intake.check()

    def _is_overdue(self) -> bool:
        """Told to stop, and the source does not end: a device that hangs in the kernel."""
        if not self._stopping.is_set():
            return False
        self._stopped_s = self._stopped_s or time.monotonic()
        return time.monotonic() - self._stopped_s > _JOIN_S

    def _inspect(self, turn: Turn) -> None:
        if turn.product is not None:
            self._announcer.announce(turn.product)
        try:
            judgement = self.judge.judge(turn)
        except Exception as fault:
            # Ours, and it ends the station; the line still hears of this part, and its frame is not
            # the first one of the next start.
            told = f"{type(fault).__name__}: {fault}"
            self.giver.give_fault(turn, self.judge.product_of(turn), Reason.ENGINE, told)
            if turn.product is not None and turn.product.on_trial is not None:
                turn.product.on_trial.fail("engine", told)
            raise
        self.giver.give(turn, judgement, meanwhile=lambda: self._beat("inspection"))

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
        self._housekeeper.check()
        self.control.check()
        self.slotting.check()
        self._beat("inspection")
        self._progress(self)

    def _beat(self, thread: str) -> None:
        if self.health is not None:
            self.health.watchdog.beat(thread)

    def _retire(self, thread: str) -> None:
        if self.health is not None:
            self.health.watchdog.retire(thread)

    def trigger(self, part_id: str, product: str = "") -> bool:
        """A part stands before the camera; from any thread.

        Args:
            part_id: the physical part, ``""`` where unknown.
            product: which bundle judges it; ``""``: the one that is in use.

        Returns:
            ``False``: the source takes no triggers, or too many wait; no verdict will come of it.

        Raises:
            InputDataError: more than 128 characters, or some that cannot be printed.
        """
        for name, text in (("part_id", part_id), ("product", product)):
            if len(text) > _TEXT_LIMIT_CHARS or not text.isprintable():
                raise InputDataError(f"{name}: at most {_TEXT_LIMIT_CHARS} printable characters")
        return self.source.offer(trigger_now(part_id, product or self.products.active.name))

    def _tell_changeover(self, product: Product) -> threading.Event:
        return self.publisher.tell(cmd="changeover", detail=product.name)

    def _describe_health(self) -> bytes:
        return b"" if self.health is None else self.health.payload()
