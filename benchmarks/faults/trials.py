"""Bundles are installed, tried, confirmed and taken back while parts keep coming.

    python benchmarks/faults/trials.py --out benchmarks/results/faults_trials.json
    python benchmarks/faults/trials.py --quick

*switched*: again and again another bundle comes into the store of a running station, goes on trial,
and is confirmed or reverted by another process, in turns. Beside the usual account, the verdicts by
`seq` must be of the old model up to some number and of the new one behind it, at every switch.

*killed*: the same with ``kill -9`` of the station at a random moment from the install on; then it
is started again. Whatever was cut, it must judge, and by a bundle that was installed.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from account import Delivery
from line import Line, Outcome, open_line
from script import Trial, prove, say
from slot_bundles import SlotBundles, put
from tiny_bundle import TinyBundle

from lineside.latency import LatencyHistogram
from lineside.mqtt import decode_verdict
from lineside.slots import SlotState, Store, open_store

_TRIAL: Final = """\
[bundle.trial]
confirm = "command"
restarts = 1000
"""
# A kill comes up to so long after the install: the proof takes some seconds here.
_KILL_WITHIN_S: Final = 6.0


class Tried:
    """A line over a store: installs the next version, and knows what ever was installed.

    Attributes:
        line: broker, station, parts, receiver.
        models: by version, as verdicts name them.
        phase: what goes on just now, for `times`.
        times: from a part's turn to its verdict's arrival, by phase.
    """

    def __init__(self, line: Line, bundles: SlotBundles) -> None:
        self.line = line
        self.models: dict[str, str] = {}
        self.phase = "confirmed"
        self.times = {name: LatencyHistogram() for name in ("confirmed", "proof", "trial")}
        self._bundles = bundles
        self._store = line.folder / "slots"
        heard = line.witness.on_verdict

        def hear(delivery: Delivery) -> None:
            self._time(delivery)
            heard(delivery)

        line.witness.on_verdict = hear

    @property
    def store(self) -> Store:
        """As another process opens it."""
        return open_store(self._store)

    @property
    def states(self) -> set[SlotState]:
        """Of both slots."""
        return {slot.state for slot in self.store.record.slots.values()}

    def install(self) -> str:
        """The next version; its model."""
        version = f"1.0.{len(self.models)}"
        sealed = self._bundles.seal(version)
        store = put(self._store, sealed, self._bundles.trust)
        sealed.unlink()
        cards = {slot.state: slot.card for slot in store.record.slots.values()}
        card = cards.get(SlotState.PENDING) or cards[SlotState.CONFIRMED]
        assert card is not None
        self.models[version] = card.hash[:12]
        return self.models[version]

    def heard_models(self) -> Iterator[str]:
        """Of each verdict, in the order of ``seq``."""
        by_seq = {}
        for delivery in self.line.witness.deliveries:
            message = decode_verdict(delivery.payload, source=delivery.kind)
            by_seq[message.seq] = message.model
        return (by_seq[seq] for seq in sorted(by_seq))

    def _time(self, delivery: Delivery) -> None:
        taken_ms = decode_verdict(delivery.payload, source=delivery.kind).t
        self.times[self.phase].add(max(0.0, time.time() * 1e6 - taken_ms * 1e3))


def switch_often(tried: Tried, times: int) -> Outcome:
    """Each time another bundle; every second one stays."""
    line = tried.line
    current = tried.install()
    expected = [current]
    line.start_station()
    line.feeder.start()
    line.wait_for_verdicts(20)
    took = LatencyHistogram()
    for number in range(times):
        tried.phase, since_s = "proof", time.monotonic()
        new = tried.install()
        line.wait_for(lambda: SlotState.TRIAL in tried.states, "a trial")
        tried.phase = "trial"
        line.wait_for(functools.partial(_judges_by, line, new), "its state")
        took.add((time.monotonic() - since_s) * 1e6)
        line.wait_for_verdicts(25)
        expected.append(new)
        if number % 2:
            tried.store.confirm()
            current = new
        else:
            tried.store.revert("command")
            expected.append(current)
        line.wait_for(lambda: line.state.get("slot_state") == "confirmed", "the trial's end")
        tried.phase = "confirmed"
        line.wait_for_verdicts(25)
        if number % 10 == 9:
            say(f"{number + 1} switches, {len(line.witness.deliveries)} deliveries")
    outcome = line.settle()
    outcome.faults.extend(_not_in_turn(tried, expected))
    _tell_times(outcome, tried, took)
    return outcome


def _judges_by(line: Line, bundle: str) -> bool:
    return str(line.state.get("bundle", "")).startswith(bundle)


def kill_often(tried: Tried, times: int, moments: random.Random) -> Outcome:
    """Each time another bundle, and an end at any moment of its way."""
    line = tried.line
    tried.install()
    line.feeder.start()
    line.start_station()
    line.wait_for_verdicts(5)
    for number in range(times):
        if not tried.states & {SlotState.PENDING, SlotState.TRIAL}:
            tried.install()
        time.sleep(moments.uniform(0, _KILL_WITHIN_S))
        line.kill_station()
        line.start_station()
        line.wait_for_verdicts(3)
        if SlotState.TRIAL in tried.states:
            if number % 2:
                tried.store.confirm()
            else:
                tried.store.revert("command")
        if number % 10 == 9:
            say(f"{number + 1} kills, {len(line.witness.deliveries)} deliveries")
    outcome = line.settle()
    strangers = set(tried.heard_models()) - set(tried.models.values())
    if strangers:
        outcome.faults.append(f"judged by what was never installed: {', '.join(strangers)}")
    return outcome


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """Both cases."""
    found: dict[str, Outcome] = {}
    for case in ("switched", "killed"):
        with open_tried(trial.room(case), trial.bundle) as tried:
            if case == "switched":
                found[case] = switch_often(tried, trial.times)
            else:
                found[case] = kill_often(tried, trial.times, trial.random)
    return found


@contextlib.contextmanager
def open_tried(folder: Path, bundle: TinyBundle, *, rate_hz: float = 50.0) -> Iterator[Tried]:
    """A `Tried` in an empty folder, closed at the end whatever happens."""
    store = {"place": 'store = "slots"', "trial": _TRIAL}
    with open_line(folder, bundle, rate_hz=rate_hz, **store) as line:
        yield Tried(line, SlotBundles(tiny=bundle, folder=folder))


def _not_in_turn(tried: Tried, expected: list[str]) -> list[str]:
    heard = list(tried.heard_models())
    runs = heard[:1] + [now for before, now in pairwise(heard) if now != before]
    return [] if runs == expected else [f"models in turn were {runs}, not {expected}"]


def _tell_times(outcome: Outcome, tried: Tried, took: LatencyHistogram) -> None:
    outcome.answers["install_to_state_p50_ms"] = round(took.percentiles().p50_us / 1000)
    outcome.answers["install_to_state_longest_ms"] = round(took.percentiles().max_us / 1000)
    for phase, times in tried.times.items():
        found = times.percentiles()
        outcome.answers[f"{phase}_verdicts"] = found.count
        outcome.answers[f"{phase}_p50_us"] = round(found.p50_us)
        outcome.answers[f"{phase}_p99_us"] = round(found.p99_us)
    say(", ".join(f"{name} {value}" for name, value in outcome.answers.items()))


if __name__ == "__main__":
    sys.exit(prove("bundles tried while parts keep coming", measure, full=50, quick=4))
