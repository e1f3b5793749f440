"""What brokers and networks do to a station, again and again, while parts keep coming.

    python benchmarks/faults/broker_faults.py --out benchmarks/results/faults_broker.json
    python benchmarks/faults/broker_faults.py --quick

Killed and stopped is the real mosquitto; the network is a small TCP proxy of ours between station
and broker (`tests/plugins/tcp_relay.py`). Each fault lasts as long as chance has it, shorter and
longer than the station's patience (2 s for an acknowledgement here, 20 s by default).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from line import Line, Outcome, open_line
from script import Trial, prove, say

Fault = Callable[[Line, random.Random], None]


def kill_broker(line: Line, chance: random.Random) -> None:
    """``kill -9``, then a new one that knows nothing."""
    line.restart_broker(away_s=chance.uniform(0, 1.5))


def stop_broker(line: Line, chance: random.Random) -> None:
    """SIGSTOP: connections stand, the kernel takes what fits into buffers, nobody answers."""
    line.broker.stall()
    time.sleep(chance.uniform(0.2, 4))
    line.broker.resume()


def stall(line: Line, chance: random.Random) -> None:
    """The network passes nothing on, in both directions."""
    line.relay.stalled = True
    time.sleep(chance.uniform(0.2, 4))
    line.relay.stalled = False


def half_open(line: Line, _chance: random.Random) -> None:
    """Both ends believe in a connection that nobody is behind any more; no FIN."""
    line.relay.vanish()
    _await_new_connection(line)


def deaf(line: Line, chance: random.Random) -> None:
    """What the station sends is lost from here on; what the broker sends arrives."""
    line.relay.deaf = True
    time.sleep(chance.uniform(0.2, 4))
    line.relay.deaf = False
    line.relay.cut()


def swallow_pubacks(line: Line, chance: random.Random) -> None:
    """The broker has every verdict and the station never hears so."""
    line.relay.swallow_pubacks = True
    time.sleep(chance.uniform(0.2, 5))
    line.relay.swallow_pubacks = False
    # What was swallowed stays so: over this connection its PUBACK never comes.
    line.relay.vanish()
    _await_new_connection(line)


def tear_packet(line: Line, _chance: random.Random) -> None:
    """The connection breaks in the middle of a PUBLISH packet."""
    line.relay.tear()
    line.wait_for(lambda: line.relay.torn, "a packet to tear")


def cut(line: Line, _chance: random.Random) -> None:
    """The connection breaks wherever it is."""
    line.relay.cut()


def slow(line: Line, chance: random.Random) -> None:
    """Every packet takes 20 to 80 ms for some seconds, then a cut."""
    line.relay.delay_s = chance.uniform(0.02, 0.08)
    time.sleep(chance.uniform(0.5, 2))
    line.relay.delay_s = 0.0
    line.relay.cut()


FAULTS: Final[Mapping[str, Fault]] = {
    "broker killed": kill_broker,
    "broker stopped": stop_broker,
    "stalled": stall,
    "half-open": half_open,
    "deaf": deaf,
    "PUBACK swallowed": swallow_pubacks,
    "torn packet": tear_packet,
    "cut": cut,
    "slow": slow,
}
# Of a killed broker see `Witness`; every other case has a receiver with QoS 1 and a session.
_QOS: Final = {"broker killed": 0}


def suffer(line: Line, fault: Fault, times: int, chance: random.Random) -> Outcome:
    """Make the fault so often while parts come, with some verdicts in between, then settle."""
    line.feeder.start()
    line.start_station()
    for _ in range(times):
        line.wait_for_verdicts(1)
        time.sleep(chance.uniform(0, 0.5))
        fault(line, chance)
    line.wait_for_verdicts(1)
    return line.settle()


def prove_case(trial: Trial, case: str) -> Outcome:
    """One fault on a line of its own."""
    room = trial.room(case.replace(" ", "-"))
    with open_line(room, trial.bundle, qos=_QOS.get(case, 1)) as line:
        outcome = suffer(line, FAULTS[case], trial.times, trial.random)
    say(f"{case}: {outcome.given} given, {outcome.received} received")
    return outcome


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """Each fault in turn."""
    return {case: prove_case(trial, case) for case in FAULTS}


def _await_new_connection(line: Line) -> None:
    known = line.relay.connections
    line.wait_for(lambda: line.relay.connections > known, "another connection")


if __name__ == "__main__":
    sys.exit(prove("broker and network faults while parts come", measure, full=25, quick=2))
