"""The proofs of benchmarks/faults/slots.py, small: power cuts over flash, kills over a folder."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from slot_cuts import Place, Road, Tally
from slot_files import slot_file
from slot_kills import kill_often
from small_bundles import Factory

# Every how many bytes a write is torn, by step; benchmarks/faults/slots.py tears all at each.
TORN_EVERY = {"switch": 3, "go on": 7}


def choose(name: str, place: Place) -> bool:
    """Each operation at its edges; of some steps more, erases now and then."""
    every = TORN_EVERY.get(name, 10**9) * (37 if place.is_erase else 1)
    return place.is_edge or place.torn_bytes % every == 0


def test_a_power_cut_at_any_operation_leaves_the_old_or_the_new() -> None:
    files = [slot_file(number, size_bytes=600, counter=c) for number, c in enumerate((1, 2, 2, 3))]
    road = Road(files, lambda data: hashlib.sha256(data).hexdigest(), page_bytes=512)
    tallies = dict(road.cut(choose))
    assert [words for tally in tallies.values() for words in tally.bad] == []
    assert all(tally.cuts >= 4 * tally.operations - 6 for tally in tallies.values())
    for name in ("first install", "switch", "revert a trial", "go back"):
        assert tallies[name].old > 0
        assert tallies[name].new > 0
    assert sum(tally.again for tally in tallies.values()) > 300


def test_sealed_bundles_are_checked_after_each_cut() -> None:
    factory = Factory()
    files = [factory.seal(str(number), counter=c) for number, c in enumerate((1, 2, 2, 3))]
    road = Road(files, factory.check, page_bytes=1024)
    chance = random.Random(1)
    tallies = [tally for _, tally in road.cut(lambda _name, _place: chance.random() < 0.003)]
    assert [words for tally in tallies for words in tally.bad] == []
    assert sum(tally.cuts for tally in tallies) > 100


def test_a_bad_state_is_seen() -> None:
    """What judges must be whole: a check that never holds finds fault with every cut."""

    def refuse(data: bytes) -> str:
        return "another"

    files = [slot_file(number, counter=c) for number, c in enumerate((1, 2, 2, 3))]
    tallies: dict[str, Tally] = dict(
        Road(files, refuse, page_bytes=512).cut(lambda _name, place: place.torn_bytes == 100)
    )
    assert all(len(tally.bad) == tally.cuts > 0 for tally in tallies.values())


def test_kill_9_at_random_moments_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    outcome = kill_often(tmp_path / "store", 8, random.Random(2))
    assert outcome.bad == []
    assert outcome.kills == 8
    assert outcome.deeds > 0
    assert outcome.counter == 1
