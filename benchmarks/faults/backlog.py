"""100,000 verdicts, and the broker is away for half of them.

    python benchmarks/faults/backlog.py --out benchmarks/results/faults_backlog.json
    python benchmarks/faults/backlog.py --quick

A quarter is given with the broker there, half while it is killed, a quarter at 200/s from the
moment it is back. Verdicts expire after two seconds here. Live first: whatever is given after the
return must come on `verdict` and soon, while `history` brings what waited, in order.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from account import Delivery, take_account
from feeder import part_of
from line import Outcome, outcome_of
from mosquitto_broker import Mosquitto
from pipeline import Pipeline, open_pipeline, part_name
from script import Trial, prove, say
from tcp_relay import TcpRelay
from witness import Witness

from lineside.latency import LatencyHistogram

LIVE_MS: Final = 2000
LIVE_HZ: Final = 200
_PATIENCE_S: Final = 600.0


class Prompt:
    """How long live verdicts take from being given to being heard, and what else came meanwhile."""

    def __init__(self) -> None:
        self.times = LatencyHistogram()
        self.on_history = 0
        self._given_ns: dict[str, int] = {}
        self._lock = threading.Lock()

    def giving(self, part: str) -> None:
        """This one now."""
        with self._lock:
            self._given_ns[part] = time.monotonic_ns()

    def heard(self, delivery: Delivery) -> None:
        """For the witness to call."""
        with self._lock:
            since_ns = self._given_ns.pop(part_of(delivery), None)
            if since_ns is not None and delivery.kind == "verdict":
                self.times.add((time.monotonic_ns() - since_ns) / 1000)
            if self._given_ns and delivery.kind == "history":
                self.on_history += 1


def return_of_broker(folder: Path, verdicts: int) -> Outcome:
    """The whole story."""
    started_s = time.monotonic()
    broker = Mosquitto(folder, "max_inflight_messages 0", log_type="error")
    broker.start()
    relay, witness, prompt = TcpRelay(broker.port), Witness(broker.port, qos=0), Prompt()
    witness.connect()
    try:
        with open_pipeline(folder, relay.url, live_ms=LIVE_MS) as pipeline:
            present, away = verdicts // 4, verdicts // 2
            _give(pipeline, 0, present)
            relay.shut()
            witness.disconnect()
            broker.kill()
            _give(pipeline, present, present + away)
            pipeline.outbox.flush(_PATIENCE_S)
            time.sleep(LIVE_MS / 1000)
            say(f"{pipeline.outbox.waiting} wait; the broker returns")
            broker.start()
            witness.connect()
            relay.open()
            pipeline.wait_for(lambda: pipeline.publisher.connection.word == "online", _PATIENCE_S)
            witness.on_verdict = prompt.heard
            _give_live(pipeline, prompt, range(present + away, verdicts))
            assert pipeline.wait_for(lambda: pipeline.outbox.waiting == 0, _PATIENCE_S)
            _hear_out(witness)
            given = pipeline.outbox.given
    finally:
        witness.disconnect()
        relay.close()
        broker.kill()
    parts = [part_name(number) for number in range(verdicts)]
    account = take_account(witness.deliveries, given=given, parts=parts)
    outcome = outcome_of(
        account,
        starts=1,
        connections=relay.connections,
        duration_s=time.monotonic() - started_s,
    )
    _judge_live(outcome, witness, prompt, range(present + away, verdicts))
    return outcome


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """The one case."""
    return {"backlog": return_of_broker(trial.room("backlog"), trial.times)}


def _give(pipeline: Pipeline, first: int, last: int) -> None:
    for number in range(first, last):
        pipeline.give(number)


def _give_live(pipeline: Pipeline, prompt: Prompt, numbers: range) -> None:
    started_s = time.monotonic()
    for number in numbers:
        due_s = started_s + (number - numbers.start) / LIVE_HZ
        time.sleep(max(due_s - time.monotonic(), 0))
        prompt.giving(part_name(number))
        pipeline.give(number)


def _hear_out(witness: Witness) -> None:
    """Until nothing has come for half a second: what is acknowledged is on its way."""
    heard = -1
    while heard != len(witness.deliveries):
        heard = len(witness.deliveries)
        time.sleep(0.5)


def _judge_live(outcome: Outcome, witness: Witness, prompt: Prompt, numbers: range) -> None:
    live = {part_name(number) for number in numbers}
    late = sum(found.kind == "history" and part_of(found) in live for found in witness.deliveries)
    times = prompt.times.percentiles()
    say(
        f"live while history drains: p50 {times.p50_us / 1000:.1f} ms, p99 "
        f"{times.p99_us / 1000:.1f} ms, longest {times.max_us / 1000:.0f} ms; "
        f"{prompt.on_history} of history meanwhile"
    )
    outcome.answers.update(
        live_p50_us=round(times.p50_us),
        live_p99_us=round(times.p99_us),
        live_longest_us=round(times.max_us),
        history_meanwhile=prompt.on_history,
    )
    if late or times.count < len(numbers):
        outcome.faults.append(f"{late} parts given after the return came as history")
    if not prompt.on_history:
        outcome.faults.append("history did not come beside live verdicts")


if __name__ == "__main__":
    sys.exit(prove("the broker away for half of many", measure, full=100_000, quick=8_000))
