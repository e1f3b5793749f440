"""One rollout to 50 stations, with failures of every kind, everything killed once in its midst.

    python benchmarks/faults/rollout.py --out benchmarks/results/faults_rollout.json
    python benchmarks/faults/rollout.py --quick

Killed with ``kill -9`` and started again: the rollout and the broker, once in each case; and those
stations of which their script says so, in the midst of the transfer. Every station is a real
publisher, worker of signed commands and store; camera and engine are left out, and how a proof or a
trial ends is written in a script.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

import msgspec
from hall import Hall, open_hall
from script import record, say
from station_yard import Ending, Script
from tiny_bundle import TinyBundle, build_tiny_bundle

from lineside.cli.table import format_table
from lineside.fleet import Phase, RolloutState

_ENDS: Final[dict[Ending, tuple[str, str]]] = {
    "confirms": ("confirmed", "new"),
    "dies": ("confirmed", "new"),
    "self_test": ("failed", "old"),
    "reverts": ("reverted", "old"),
    "hangs": ("failed", "new trial"),
}
_TIMEOUTS: Final = ("--timeout-s", "60", "--trial-timeout-s", "60")
_STRICT: Final = ("--waves", "50%,100%", "--max-failures", "10%", *_TIMEOUTS)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one rollout left behind.

    Attributes:
        phases: stations by phase, as the rollout tells.
        stores: stations by what judges there, read from their stores.
        untouched: stations that were not begun any more, because it stopped before.
        neither: stations that were begun and neither confirmed, failed nor reverted; 0 is the goal.
        keeps: stations that would not give the bundle back.
        without_bundle: stations without any bundle; 0 is the goal.
        kills: of each kind of process.
        faults: what is not as planned, in words; empty is the goal.
    """

    stations: int
    exit_code: int
    outcome: str
    stopped: str
    phases: dict[str, int]
    stores: dict[str, int]
    untouched: int
    neither: int
    keeps: int
    without_bundle: int
    kills: dict[str, int]
    duration_s: float
    faults: list[str]


def make_scripts(endings: Sequence[tuple[Ending, int]], chance: random.Random) -> list[Script]:
    """Stations whose endings come in any order; the canary confirms."""
    drawn = [ending for ending, count in endings for _ in range(count)]
    chance.shuffle(drawn)
    return [
        Script(
            name=f"hall/line-{index // 10}/station-{index:02}",
            ending=ending,
            after_s=round(chance.uniform(0.2, 3), 2),
        )
        for index, ending in enumerate(["confirms", *drawn])
    ]


def failures_within(folder: Path, bundle: TinyBundle, size: int, chance: random.Random) -> Outcome:
    """As many fail as may: the rollout goes on to its end."""
    tenth = max(size // 10, 1)
    endings: list[tuple[Ending, int]] = [
        *(("self_test", tenth // 2 + 1), ("reverts", tenth // 2 + 1), ("hangs", 1)),
        *(("dies", tenth // 2 + 1),),
    ]
    away = [f"hall/away/station-{index}" for index in range(2)]
    has_it = [Script(name=f"hall/has-it/station-{index}", has_it=True) for index in range(2)]
    fine = size - 1 - len(away) - len(has_it) - sum(count for _, count in endings)
    scripts = [*make_scripts([*endings, ("confirms", fine)], chance), *has_it]
    allowed = len(away) + sum(count for ending, count in endings if ending != "dies")
    with open_hall(folder, bundle, scripts, absent=away) as hall:
        options = ("--waves", f"{size // 5},50%,100%", "--max-failures", str(allowed), *_TIMEOUTS)
        started_s = time.monotonic()
        _kill_all_once(hall, options, lambda state: _touched(state) >= size // 4)
        code = hall.end_rollout()
        return _account(hall, code, time.monotonic() - started_s, expected=_expected(hall))


def too_many_failures(
    folder: Path, bundle: TinyBundle, size: int, chance: random.Random
) -> Outcome:
    """More fail than may: it stops, and whoever has the bundle gives it back."""
    with open_hall(folder, bundle, _third_reverts(size, chance)) as hall:
        started_s = time.monotonic()
        _kill_all_once(hall, _STRICT, lambda state: bool(state.stopped))
        code = hall.end_rollout()
        old = {script.name: ("", "old") for script in hall.scripts}
        return _account(hall, code, time.monotonic() - started_s, expected=old)


def no_way_back(folder: Path, bundle: TinyBundle, size: int, chance: random.Random) -> Outcome:
    """The same with a bundle that raises the security counter: where it is confirmed it stays."""
    with open_hall(folder, bundle, _third_reverts(size, chance), security_counter=1) as hall:
        started_s = time.monotonic()
        _kill_all_once(hall, _STRICT, lambda state: bool(state.stopped))
        code = hall.end_rollout()
        keeps = hall.result()["keeps"]
        expected = {
            script.name: ("confirmed", "new") if script.name in keeps else ("", "old")
            for script in hall.scripts
        }
        outcome = _account(hall, code, time.monotonic() - started_s, expected=expected)
    canary = hall.scripts[0].name
    return (
        outcome
        if canary in keeps
        else msgspec.structs.replace(outcome, faults=[*outcome.faults, "no refusal"])
    )


def _third_reverts(size: int, chance: random.Random) -> list[Script]:
    reverts = size // 3
    return make_scripts([("reverts", reverts), ("confirms", size - 1 - reverts)], chance)


def _kill_all_once(
    hall: Hall, options: Sequence[str], when: Callable[[RolloutState], bool]
) -> None:
    """The rollout once it is so far, and the broker as soon as it has been started again."""
    hall.start_rollout(*options)
    hall.wait_for(lambda: hall.state is not None and when(hall.state), "the moment to kill it")
    hall.kill_rollout()
    hall.start_rollout(*options)
    hall.restart_broker(1.0)


def _touched(state: RolloutState) -> int:
    return sum(it.is_ours for it in state.stations.values())


def _expected(hall: Hall) -> dict[str, tuple[str, str]]:
    """Phase and store of each station in the end."""
    ends = {
        script.name: ("skipped", "new") if script.has_it else _ENDS[script.ending]
        for script in hall.scripts
    }
    return ends | dict.fromkeys(hall.absent, ("failed", ""))


def _account(
    hall: Hall, code: int, duration_s: float, *, expected: dict[str, tuple[str, str]]
) -> Outcome:
    result, stores = hall.result(), hall.stores()
    phases = {each["station"]: each["phase"] for each in result["stations"]}
    settled = {Phase.CONFIRMED, Phase.FAILED, Phase.REVERTED, Phase.SKIPPED, Phase.WAITING}
    return Outcome(
        stations=len(phases),
        exit_code=code,
        outcome=result["outcome"],
        stopped=result["stopped"],
        phases=result["counts"],
        stores=dict(Counter(stores.values())),
        untouched=sum(phase == Phase.WAITING for phase in phases.values()),
        neither=sum(phase not in settled for phase in phases.values()),
        keeps=len(result["keeps"]),
        without_bundle=sum(word == "nothing" for word in stores.values()),
        kills={
            "rollout": hall.rollout_starts - 1,
            "broker": hall.broker_kills,
            "station": sum(yard.starts - 1 for yard in hall.yards),
        },
        duration_s=round(duration_s, 1),
        faults=_compare(hall, result, phases, stores, expected),
    )


def _compare(
    hall: Hall,
    result: dict[str, Any],
    phases: dict[str, str],
    stores: dict[str, str],
    expected: dict[str, tuple[str, str]],
) -> list[str]:
    faults = []
    for name, (phase, store) in expected.items():
        if phase and phases[name] != phase:
            faults.append(f"{name}: {phases[name]}, planned was {phase}")
        if store and stores[name] != store:
            faults.append(f"{name}: {stores[name]} in its store, planned was {store}")
    if not hall.security_counter:
        faults += [f"{name}: did not give the bundle back" for name in result["keeps"]]
    if result["outcome"] != "stopped" and Phase.WAITING in phases.values():
        faults.append("not every station was begun")
    dying = sum(script.ending == "dies" for script in hall.scripts)
    if dying and not sum(yard.starts - 1 for yard in hall.yards):
        faults.append("no station died")
    return faults


def main() -> int:
    """Run the cases, print, and keep where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="12 stations, not 50")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write what was found, as JSON")
    options = parser.parse_args()
    load_before, size = os.getloadavg(), 12 if options.quick else 50
    cases = {
        "failures within the share": failures_within,
        "too many failures": too_many_failures,
        "too many, counter raised": no_way_back,
    }
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="lineside-faults-") as name:
        bundle_folder = Path(name) / "bundle"
        bundle_folder.mkdir()
        bundle = build_tiny_bundle(bundle_folder)
        for case, run in cases.items():
            folder = Path(name) / case.replace(" ", "-")
            folder.mkdir()
            outcomes[case] = run(folder, bundle, size, random.Random(options.seed))
            say(f"{case}: {outcomes[case].outcome}, {len(outcomes[case].faults)} not as planned")
    show(outcomes)
    if options.out is not None:
        found = {"seed": options.seed, "cases": msgspec.to_builtins(outcomes)}
        what = "rollouts to stations that fail, while rollout, broker and stations are killed"
        record(options.out, what, found, load_before)
    return int(any(outcome.faults for outcome in outcomes.values()))


def show(outcomes: dict[str, Outcome]) -> None:
    """A table, and what is not as planned."""
    head = (
        "case",
        "stations",
        "outcome",
        "phases",
        "stores",
        "untouched",
        "neither",
        "keeps",
        "duration s",
    )
    rows = [
        (
            case,
            str(it.stations),
            it.outcome,
            ", ".join(f"{count} {phase}" for phase, count in it.phases.items()),
            ", ".join(f"{count} {word}" for word, count in it.stores.items()),
            *(str(it.untouched), str(it.neither), str(it.keeps)),
            f"{it.duration_s:g}",
        )
        for case, it in outcomes.items()
    ]
    say(format_table(head, rows, right=(1, 5, 6, 7, 8)))
    for case, it in outcomes.items():
        for fault in it.faults:
            say(f"{case}: {fault}")


if __name__ == "__main__":
    sys.exit(main())
