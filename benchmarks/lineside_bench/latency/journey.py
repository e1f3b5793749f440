"""A part's way from its picture's bytes to the PLC, by stage, through the station's own rooms.

One part at a time, in one process: `lineside measure line` has a station of its own and a rate.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import numpy as np

import lineside
from lineside.bench import golden_frames
from lineside.errors import BrokerError, InputDataError
from lineside.frame import decode_frame, encode_png
from lineside.inspector import Inspector
from lineside.mqtt import MqttSettings, Publisher, StateMessage, StateWord, StationTopics
from lineside.mqtt.state import make_state
from lineside.outbox import Outbox, OutboxSettings
from lineside.sources import Capture
from lineside.station import SWITCH_S, ModelCard, Product
from lineside.station.giving import Giver, Judgement
from lineside.station.judge import judge_by
from lineside.station.report import Tally
from lineside.station.turn import Turn
from lineside.worker import Worker
from lineside_bench.broker import Broker
from lineside_bench.plc import Plc
from lineside_bench.suite import Sealed, Suite
from lineside_bench.turns import Micros, clock_overhead_us, spread

STAGES: Final = (
    *("decode", "digest", "preprocess", "infer", "decide", "around", "hand-over"),
    *("PUBACK", "PLC", "whole"),
)
_TOPICS: Final = StationTopics(site="bench", line="bench", station="bench")
_STATION: Final = "lineside/v1/bench/bench/bench"
_PATIENCE_S: Final = 20.0
_GAP_S: Final = 0.002  # parts come one by one; the disk and the threads come to rest
_WARM_UP: Final = 20
_FEWEST: Final = 20


class _WatchedOutbox(Outbox):
    """Keeps when each verdict became durable, and when the broker acknowledged it."""

    def __init__(self, settings: OutboxSettings) -> None:
        self.durable_ns: dict[int, int] = {}
        self.acknowledged_ns: dict[int, int] = {}
        self.moved = threading.Event()
        super().__init__(settings)

    def committed(self) -> None:
        """To be called after each commit."""
        self.durable_ns.setdefault(self.given, perf_counter_ns())
        self.moved.set()

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """See `Outbox.acknowledge`."""
        super().acknowledge(seqs)
        for seq in seqs:
            self.acknowledged_ns.setdefault(seq, perf_counter_ns())
        self.moved.set()


class Journey:
    """Sends parts, one at a time.

    Attributes:
        engine: what judges, in words.
        without: why nobody is told, in words; ``""``: a PLC hears.
    """

    def __init__(
        self, inspector: Inspector, outbox: _WatchedOutbox, plc: Plc | None, without: str
    ) -> None:
        self.engine = inspector.engine.description
        self.without = without
        self._product = _product(inspector)
        self._outbox = outbox
        self._plc = plc
        self._giver = Giver(outbox, Tally(), expiry_s=60.0, stopping=threading.Event())
        self._pictures = [encode_png(one.pixels_hwc) for one in golden_frames(inspector.bundle)]

    def send(self, number: int) -> dict[str, float]:
        """One part; microseconds by stage, ``whole`` until the last who hears of it here.

        Raises:
            BrokerError: it did not arrive.
        """
        part = f"part-{number:07d}"
        marks = [perf_counter_ns()]
        frame = decode_frame(self._pictures[number % len(self._pictures)], source="camera")
        marks.append(perf_counter_ns())
        turn = Turn(_capture(part, frame), self._product)
        turn.frame_sha256()
        marks.append(perf_counter_ns())
        judgement = judge_by(turn, self._product)
        marks.append(perf_counter_ns())
        self._giver.give(turn, judgement)
        seq = number + 1
        marks.append(self._wait(self._outbox.durable_ns, seq))
        ends = [marks[-1]]
        if self._plc is not None:
            ends = [
                self._wait(self._outbox.acknowledged_ns, seq),
                self._wait(self._plc.arrived_ns, part),
            ]
        time.sleep(_GAP_S)
        return _stages(marks, judgement, ends)

    def _wait(self, when_ns: dict[Any, int], key: object) -> int:
        """Until it is there; the moment was taken by whoever put it there."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while key not in when_ns:
            self._outbox.moved.wait(0.0005)
            self._outbox.moved.clear()
            if time.monotonic() > deadline_s:
                raise BrokerError(f"part {key} did not arrive within {_PATIENCE_S:g} s")
        return when_ns[key]


def _capture(part: str, frame: lineside.Frame) -> Capture:
    return Capture(
        part_id=part,
        taken_unix_ns=time.time_ns(),
        taken_ns=time.monotonic_ns(),
        read_us=0.0,
        frame=frame,
    )


def _product(inspector: Inspector) -> Product:
    bundle, engine = inspector.bundle, inspector.engine
    card = ModelCard(
        product=bundle.manifest.identity.product,
        bundle=bundle.hash,
        version=bundle.manifest.identity.version,
        engine=f"{engine.name}/{engine.precision}",
        unit=bundle.manifest.rule.unit,
        limits=inspector.limits,
    )
    return Product(card=card, inspector=inspector, contract=inspector.contract)


def _stages(marks: Sequence[int], judgement: Judgement, ends: Sequence[int]) -> dict[str, float]:
    decode, digest, judge, hand_over = (np.diff(marks) / 1e3).tolist()
    times = judgement.verdict.timings
    stages = {
        "decode": decode,
        "digest": digest,
        "preprocess": times.preprocess_us,
        "infer": times.infer_us,
        "decide": times.decide_us,
        "around": judge - times.total_us,
        "hand-over": hand_over,
    }
    if len(ends) > 1:
        stages["PUBACK"], stages["PLC"] = ((end - marks[-1]) / 1e3 for end in ends)
    # The PLC does not wait for the station to hear that the broker has it.
    return {**stages, "whole": (ends[-1] - marks[0]) / 1e3}


@contextlib.contextmanager
def open_journey(suite: Suite, one: Sealed) -> Iterator[Journey]:
    """Inspector, outbox, publisher, and, where mosquitto is installed, broker and PLC."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lineside-latency-")))
        inspector = stack.enter_context(
            lineside.load(suite.path(one), trust=suite.key, cache_folder=_private(folder))
        )
        outbox = _WatchedOutbox(OutboxSettings(path=folder / "outbox.sqlite", keep_free_mib=1))
        stack.callback(outbox.close)
        outbox.when_committed(outbox.committed)
        plc, without = None, ""
        try:
            broker = Broker(folder)
        except InputDataError as error:
            without = f"PUBACK and PLC are left out: {error}"
        else:
            plc = stack.enter_context(_told(broker, outbox))
        stack.enter_context(_switching())
        yield Journey(inspector, outbox, plc, without)


def _private(folder: Path) -> Path:
    cache = folder / "cache"
    cache.mkdir(mode=0o700)
    return cache


@contextlib.contextmanager
def _switching() -> Iterator[None]:
    """Threads let each other run as soon as a station's do."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


@contextlib.contextmanager
def _told(broker: Broker, outbox: _WatchedOutbox) -> Iterator[Plc]:
    with contextlib.ExitStack() as stack:
        stack.callback(broker.stop)
        broker.start()
        plc = Plc(broker.port, _STATION)
        stack.callback(plc.close)
        plc.connect()
        publisher = Publisher(
            MqttSettings(url=broker.url, reconnect_min_s=0.1, reconnect_max_s=0.5),
            topics=_TOPICS,
            spool=outbox,
            describe=_online,
        )

        def committed() -> None:
            outbox.committed()
            publisher.wake()

        outbox.when_committed(committed)
        sender = Worker(publisher.run, name="lineside-publisher")
        sender.start()
        stack.callback(sender.join, _PATIENCE_S)
        stack.callback(publisher.stop, 1.0)
        yield plc


def _online() -> StateMessage:
    return make_state(StateWord.ONLINE)


def send_for(journey: Journey, budget_s: float, *, first: int) -> list[dict[str, float]]:
    """Parts for so long, after some that do not count; the clock's own cost subtracted."""
    cost_us = clock_overhead_us()
    sent: list[dict[str, float]] = []
    until_s = time.monotonic() + budget_s
    for number in range(first, first + 1_000_000):
        if len(sent) >= _WARM_UP + _FEWEST and time.monotonic() > until_s:
            break
        stages = journey.send(number)
        sent.append({name: value - cost_us for name, value in stages.items()})
    return sent


def rows_of(sent: Sequence[dict[str, float]], beside: str) -> list[dict[str, Any]]:
    """A row a stage, without the warm-up."""
    counted = sent[_WARM_UP:]
    return [
        {"stage": name, "beside": beside, **asdict(spread(column(counted, name)))}
        for name in STAGES
        if name in counted[0]
    ]


def column(sent: Sequence[dict[str, float]], name: str) -> Micros:
    """One stage of all parts."""
    return np.array([stages[name] for stages in sent])
