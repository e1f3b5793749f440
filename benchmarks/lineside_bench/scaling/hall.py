"""Simulated stations in a process of their own: ``python -m lineside_bench.scaling.hall``.

Each has an outbox and the publisher of a real station, and no camera. Orders come in on standard
input, one a line; each is answered with a line when it is done.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import msgspec

from lineside.errors import BrokerError
from lineside.mqtt import MqttSettings, Publisher, StateWord, StationTopics
from lineside.mqtt.state import make_state
from lineside.outbox import Outbox, OutboxSettings
from lineside.verdict import Evaluation, Reason, Verdict
from lineside.worker import Worker
from lineside_bench.draft import draft_of

DONE = "done"
_ONLINE_S = 30.0
_DRAIN_S = 5.0
_LIVE_MS = 10_000


class HallOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What these stations are to do; those that are not there yet are opened and connected.

    Attributes:
        url: of the broker.
        folder: for the outboxes.
        stations: names.
        parts: of each; 0: connect only.
        rate_hz: of each.
        start_ns: of the first part, by `time.monotonic_ns`.
    """

    url: str
    folder: str
    stations: tuple[str, ...]
    parts: int = 0
    rate_hz: float = 1.0
    start_ns: int = 0


class Station:
    """What a station has behind its inspection."""

    def __init__(self, name: str, order: HallOrder) -> None:
        self.name = name
        folder = Path(order.folder) / name
        folder.mkdir()
        self._outbox = Outbox(OutboxSettings(path=folder / "outbox.sqlite", keep_free_mib=1))
        self._publisher = Publisher(
            MqttSettings(url=order.url),
            topics=StationTopics(site="bench", line="bench", station=name),
            spool=self._outbox,
            describe=lambda: make_state(StateWord.ONLINE),
        )
        self._outbox.when_committed(self._publisher.wake)
        self._sender = Worker(self._publisher.run, name=f"publisher-{name}")
        self._sender.start()

    def wait_online(self) -> None:
        """Raises `BrokerError` where the broker does not take it."""
        deadline_s = time.monotonic() + _ONLINE_S
        while self._publisher.connection.word != "online":
            if time.monotonic() > deadline_s:
                raise BrokerError(f"{self.name}: {self._publisher.connection.detail}")
            time.sleep(0.005)

    def give(self, order: HallOrder) -> None:
        """Hand over parts at an even rate, each station at a phase of its own."""
        never = threading.Event()
        phase_s = int(self.name) * 0.618034 % 1 / order.rate_hz
        for number in range(order.parts):
            due_ns = order.start_ns + round((number / order.rate_hz + phase_s) * 1e9)
            time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            # The moment is the part's name, so that whoever hears the verdict needs no list.
            part = f"{self.name}-{time.perf_counter_ns()}"
            draft = draft_of(_verdict_of(part), turn=time.time_ns(), live_ms=_LIVE_MS)
            self._outbox.put(draft, stopping=never)

    def close(self) -> None:
        """Send what still goes out, end."""
        self._publisher.stop(_DRAIN_S)
        self._sender.join(2 * _DRAIN_S)
        self._outbox.close()


def _verdict_of(part: str) -> Verdict:
    return Verdict(
        evaluation=Evaluation.OK,
        reason=Reason.WITHIN_LIMIT,
        score=0.25,
        limit=0.5,
        product="bench",
        model="0123456789abcdef",
        engine="openvino/int8",
        part_id=part,
    )


def main() -> None:
    """Do as told until the input ends."""
    stations: dict[str, Station] = {}
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=HallOrder)
        for name in order.stations:
            if name not in stations:
                stations[name] = Station(name, order)
        asked = [stations[name] for name in order.stations]
        for one in asked:
            one.wait_online()
        givers = [threading.Thread(target=one.give, args=(order,)) for one in asked if order.parts]
        for giver in givers:
            giver.start()
        for giver in givers:
            giver.join()
        print(DONE, flush=True)
    for one in stations.values():
        one.close()


if __name__ == "__main__":
    main()
