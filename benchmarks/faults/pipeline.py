"""Outbox and publisher in this process, with a real mosquitto beside: verdicts without a camera."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lineside.mqtt import MqttSettings, Publisher, StateMessage, StateWord, StationTopics
from lineside.mqtt.state import make_state
from lineside.outbox import Outbox, OutboxSettings
from lineside.verdict import Evaluation, Reason, Verdict
from lineside.worker import Worker
from lineside_bench.draft import draft_of

TOPICS: Final = StationTopics(site="plant1", line="line3", station="load1")
_DRAIN_S: Final = 10.0


class Pipeline:
    """What a station has behind its inspection.

    Args:
        folder: for the outbox.
        url: the broker's.
        live_ms: a verdict expires so long after it was given.
    """

    def __init__(self, folder: Path, url: str, *, live_ms: int = 10_000) -> None:
        self._live_ms = live_ms
        self.outbox = Outbox(OutboxSettings(path=folder / "outbox.sqlite"))
        self.publisher = Publisher(
            MqttSettings(url=url, reconnect_min_s=0.05, reconnect_max_s=0.5, state_interval_s=1),
            topics=TOPICS,
            spool=self.outbox,
            describe=self._describe,
        )
        self.outbox.when_committed(self.publisher.wake)
        self._sender = Worker(self.publisher.run, name="lineside-publisher")
        self._never = threading.Event()
        self._sender.start()

    def give(self, number: int) -> None:
        """Hand over one verdict; waits while the outbox has too many that are not durable."""
        self.outbox.check()
        draft = draft_of(_verdict_of(number), turn=number, live_ms=self._live_ms)
        assert self.outbox.put(draft, stopping=self._never)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came true in time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._sender.check()
            self.outbox.check()
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Send what still goes out, end."""
        self.publisher.stop(_DRAIN_S)
        self._sender.join(2 * _DRAIN_S)
        self.outbox.close()

    def _describe(self) -> StateMessage:
        return make_state(StateWord.ONLINE)


def part_name(number: int) -> str:
    """Of the verdict with this number."""
    return f"part-{number:07d}"


def _verdict_of(number: int) -> Verdict:
    return Verdict(
        evaluation=Evaluation.OK,
        reason=Reason.WITHIN_LIMIT,
        score=0.25 + number % 1000 / 1e4,
        limit=0.5,
        unit="K/W",
        product="tiny",
        model="0123456789abcdef",
        engine="onnxruntime/fp32",
        part_id=part_name(number),
    )


@contextlib.contextmanager
def open_pipeline(folder: Path, url: str, *, live_ms: int = 10_000) -> Iterator[Pipeline]:
    """A `Pipeline`, closed at the end whatever happens."""
    pipeline = Pipeline(folder, url, live_ms=live_ms)
    try:
        yield pipeline
    finally:
        pipeline.close()
