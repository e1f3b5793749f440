"""When does a part hear `deadline` whose inspection is too slow, and does any part hear twice?

    python benchmarks/faults/deadline.py --out benchmarks/results/faults_deadline.json
    python benchmarks/faults/deadline.py --quick

A station in this process with a real outbox and a real mosquitto beside; its inspection takes by
chance between none and four times the deadline. A receiver of plain paho notes when each verdict
arrives, by the clock that the trigger was noted by. *Late* is the arrival after the deadline.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

import paho.mqtt.client as paho
from frame_feed import Feed
from mosquitto_broker import Mosquitto
from paho.mqtt.enums import CallbackAPIVersion

from lineside.cli.table import format_table
from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.mqtt import MqttSettings, StationTopics, decode_verdict
from lineside.outbox import Outbox, OutboxSettings
from lineside.station import ModelCard, Pace, Product, Products, Station
from lineside.verdict import Evaluation, Reason, Verdict
from lineside_bench.record import circumstances, keep

DEADLINES_MS: Final = (50, 100, 250)
TOPICS: Final = StationTopics(site="plant1", line="line3", station="slow1")
_CARD: Final = ModelCard(product="slow", bundle="ab" * 32, version="1", engine="sleep/fp64")


class SlowInspector:
    """Sleeps so long as chance says.

    Args:
        most_s: the longest sleep.
        seed: of the chance.
    """

    def __init__(self, most_s: float, seed: int) -> None:
        self._most_s = most_s
        self._random = random.Random(seed)

    def inspect_batch(self, frames: Sequence[Frame]) -> list[Inspection]:
        """All OK."""
        time.sleep(self._random.uniform(0.0, self._most_s))
        verdict = Verdict(evaluation=Evaluation.OK, reason=Reason.WITHIN_LIMIT, score=0.0)
        return [Inspection(verdict=verdict) for _ in frames]


@dataclass
class Arrivals:
    """What a receiver heard, by part.

    Attributes:
        at_s: monotonic, of each delivery.
        reasons: of each delivery.
    """

    at_s: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def note(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        """A verdict has come."""
        now_s = time.monotonic()
        found = decode_verdict(bytes(message.payload), source=message.topic)
        self.at_s.setdefault(found.part, []).append(now_s)
        self.reasons.setdefault(found.part, []).append(found.reason)


def measure(deadline_ms: int, parts: int, folder: Path, broker: Mosquitto) -> dict[str, Any]:
    """One deadline."""
    feed, outbox = Feed(), Outbox(OutboxSettings(path=folder / f"{deadline_ms}.sqlite"))
    inspector = SlowInspector(4 * deadline_ms / 1000, seed=deadline_ms)
    station = Station(
        topics=TOPICS,
        products=Products([Product(card=_CARD, inspector=inspector)]),
        source=feed,
        outbox=outbox,
        mqtt=MqttSettings(url=broker.url),
        pace=Pace(deadline_ms=float(deadline_ms)),
    )
    arrivals, client = Arrivals(), paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = arrivals.note
    client.connect("127.0.0.1", broker.port)
    client.subscribe(TOPICS.verdict, qos=1)
    client.loop_start()
    thread = threading.Thread(target=station.run, kwargs={"drain_timeout_s": 60.0})
    thread.start()
    triggered_s = {}
    for number in range(parts):
        name = f"p{number:05d}"
        triggered_s[name] = time.monotonic()
        feed.give(name)
        time.sleep(deadline_ms / 1000)
    feed.close()
    thread.join(120)
    outbox.close()
    give_up_s = time.monotonic() + 30
    while len(arrivals.at_s) < parts and time.monotonic() < give_up_s:
        time.sleep(0.05)
    client.disconnect()
    client.loop_stop()
    return summarise(deadline_ms, triggered_s, arrivals, station)


def summarise(
    deadline_ms: int, triggered_s: dict[str, float], arrivals: Arrivals, station: Station
) -> dict[str, Any]:
    """Counts, and how the arrivals lie about the deadline, milliseconds."""
    reasons = list(itertools.chain.from_iterable(arrivals.reasons.values()))
    offs_ms = sorted(
        1000 * (arrivals.at_s[part][0] - triggered_s[part]) - deadline_ms
        for part, said in arrivals.reasons.items()
        if said[0] == "deadline"
    )
    return {
        "deadline_ms": deadline_ms,
        "lead_ms": Pace(deadline_ms=float(deadline_ms)).lead_ms,
        "parts": len(triggered_s),
        "heard": len(arrivals.at_s),
        "heard_twice": sum(len(times) > 1 for times in arrivals.at_s.values()),
        "deadline": reasons.count("deadline"),
        "decided": reasons.count("within_limit"),
        "overload": reasons.count("overload"),
        "late_results_in_journal": station.giver.late,
        "arrival_minus_deadline_ms": {
            "p1": _at(offs_ms, 0.01),
            "p50": _at(offs_ms, 0.5),
            "p99": _at(offs_ms, 0.99),
            "max": _at(offs_ms, 1.0),
        },
        "after_the_deadline": sum(off > 0 for off in offs_ms),
    }


def _at(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[round(share * (len(ordered) - 1))], 2) if ordered else None


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, help="parts for each deadline")
    parser.add_argument("--quick", action="store_true", help="30 parts")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    parts = asked.times or (30 if asked.quick else 400)
    with tempfile.TemporaryDirectory(prefix="lineside-deadline-") as name:
        folder = Path(name)
        broker = Mosquitto(folder)
        broker.start()
        found = [measure(deadline_ms, parts, folder, broker) for deadline_ms in DEADLINES_MS]
        broker.kill()
    head = ("deadline ms", "parts", "heard", "twice", "deadline", "p50", "p99", "max", "after it")
    rows = [
        tuple(
            str(value)
            for value in (
                *(one["deadline_ms"], one["parts"], one["heard"], one["heard_twice"]),
                one["deadline"],
                *(one["arrival_minus_deadline_ms"][key] for key in ("p50", "p99", "max")),
                one["after_the_deadline"],
            )
        )
        for one in found
    ]
    print(format_table(head, rows, right=tuple(range(len(head)))))
    if asked.out:
        keep(
            asked.out,
            {
                **circumstances("arrival of deadline verdicts after the deadline, milliseconds"),
                "load_after": os.getloadavg()[0],
                "deadlines": found,
            },
        )
    return int(any(one["heard"] != one["parts"] or one["heard_twice"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
