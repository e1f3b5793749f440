"""Bytes of the outbox change between the end of a station and its next start.

    python benchmarks/faults/torn_page.py --out benchmarks/results/faults_torn_page.json
    python benchmarks/faults/torn_page.py --quick

Verdicts wait in the outbox because the broker is away; the station ends, by ``kill -9`` (they stand
in the write-ahead log) or by SIGTERM (they stand in the file); one place of the log or the file is
changed: a bit, a handful of bytes, or the rest of a page that was never written. At its next start
the station must refuse with its exit code and say why, tell a fault of the disk, or deliver every
verdict as it was. Whatever else is a loss in silence, and fails. A changed mark of an inspected
frame lets that frame be judged again, under a number of its own: nothing is lost, and it is counted
apart.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from account import Delivery, take_account
from line import Line, Outcome, open_line, outcome_of
from script import Trial, prove, say

from lineside.outbox import Outbox, OutboxSettings
from lineside.verdict import Reason

PAGE_BYTES: Final = 4096
_STORAGE_CODE: Final = 7
_PATIENCE_S: Final = 60.0
_WAITING: Final = 40

Damage = Callable[[bytearray, random.Random], None]
Answer = Literal["recovered", "judged again", "refused", "told", "lost"]


def flip_bit(data: bytearray, chance: random.Random) -> None:
    """One bit anywhere."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def scribble(data: bytearray, chance: random.Random) -> None:
    """Up to 64 other bytes anywhere."""
    start = chance.randrange(len(data))
    for place in range(start, min(start + chance.randint(2, 64), len(data))):
        data[place] ^= chance.randint(1, 255)


def tear(data: bytearray, chance: random.Random) -> None:
    """A page whose end was never written: zeros from some 512-byte sector on."""
    page = chance.randrange(max(len(data) // PAGE_BYTES, 1)) * PAGE_BYTES
    start = page + 512 * chance.randrange(8)
    end = min(page + PAGE_BYTES, len(data))
    data[start:end] = bytes(max(end - start, 0))


DAMAGES: Final[tuple[Damage, ...]] = (flip_bit, scribble, tear)


def damage_once(
    line: Line, *, in_log: bool, damage: Damage, chance: random.Random
) -> tuple[Answer, Outcome]:
    """One station, one damage, its answer."""
    truth = _fill(line, in_log=in_log)
    hurt = line.outbox_path.with_name(line.outbox_path.name + ("-wal" if in_log else ""))
    data = bytearray(hurt.read_bytes())
    before = bytes(data)
    while bytes(data) == before:
        damage(data, chance)
    hurt.write_bytes(data)
    line.relay.open()
    answer = _answer(line)
    line.kill_station()
    account = take_account(
        [*truth, *line.witness.deliveries],
        given=line.given if answer == "recovered" else len({one.payload for one in truth}),
        parts=line.feeder.parts,
        bad=line.feeder.bad,
    )
    if answer in ("refused", "told"):
        # Nothing was claimed, so nothing is missing: but what it did send must be true.
        account = replace(account, missing=(), unheard=())
    elif answer == "recovered" and account.twice:
        answer, account = "judged again", replace(account, twice=())
    outcome = outcome_of(account, starts=line.starts, connections=0, duration_s=0)
    if answer == "lost":
        outcome.faults.append(f"the station neither went on nor said why: {line.last_words()}")
    return ("lost" if outcome.faults else answer), outcome


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """So many damages to the log, and as many to the file."""
    return {
        place: _repeat(trial, place, in_log=in_log)
        for place, in_log in (("write-ahead log", True), ("file", False))
    }


def _repeat(trial: Trial, place: str, *, in_log: bool) -> Outcome:
    answers: Counter[str] = Counter()
    total: Counter[str] = Counter()
    faults: list[str] = []
    started_s = time.monotonic()
    for number in range(trial.times):
        damage = DAMAGES[number % len(DAMAGES)]
        room = trial.room(f"{place.split()[0]}-{number}")
        with open_line(room, trial.bundle) as line:
            answer, outcome = damage_once(line, in_log=in_log, damage=damage, chance=trial.random)
        shutil.rmtree(room)
        answers[answer] += 1
        total.update({"given": outcome.given, "received": outcome.received})
        faults += [f"{damage.__name__}: {words}" for words in outcome.faults]
    say(f"{place}: {dict(answers)}")
    return Outcome(
        given=total["given"],
        received=total["received"],
        repeated=0,
        on_verdict=0,
        on_history=0,
        station_starts=2 * trial.times,
        connections=0,
        duration_s=round(time.monotonic() - started_s, 1),
        faults=faults,
        answers=dict(answers),
    )


def _fill(line: Line, *, in_log: bool) -> list[Delivery]:
    """Some verdicts acknowledged, more that wait; the station ended. What waits, as it was."""
    line.feeder.present(10)
    line.start_station()
    line.wait_for(lambda: line.feeder.unheard == 0 and line.queue == 0, "a first few verdicts")
    line.relay.shut()
    line.feeder.present(_WAITING)
    line.wait_for(lambda: line.given == len(line.feeder.parts), "verdicts on disk")
    if in_log:
        line.kill_station()
    else:
        line.stop_station()
    aside = line.folder / "aside"
    aside.mkdir()
    for part in line.folder.glob("outbox.sqlite*"):
        shutil.copy(part, aside)
    outbox = Outbox(OutboxSettings(path=aside / "outbox.sqlite"))
    rows = outbox.unsent(0, 1000)
    outbox.close()
    return [*line.witness.deliveries, *(Delivery("before", row.payload) for row in rows)]


def _answer(line: Line) -> Answer:
    """What the station makes of it."""
    process = line.start_station()
    deadline_s = time.monotonic() + _PATIENCE_S
    while process.poll() is None:
        if line.feeder.unheard == 0 and line.queue == 0 and line.heard_all:
            return "recovered"
        if time.monotonic() > deadline_s:
            return "told" if line.state.get("reason") == Reason.DISK.value else "lost"
        time.sleep(0.02)
    is_clear = process.returncode == _STORAGE_CODE and line.outbox_path.name in line.last_words()
    return "refused" if is_clear else "lost"


if __name__ == "__main__":
    sys.exit(prove("bytes of the outbox changed before a start", measure, full=60, quick=6))
