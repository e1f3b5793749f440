"""A sample of benchmarks/faults/sensor.py: power cuts and noise while a bundle comes in."""

from __future__ import annotations

import random

import pytest
from guarded_flash import GuardedFlash
from sensor_bundles import Family
from sensor_cuts import ROADS, Cut, Tally
from sensor_noise import Tally as NoiseTally
from sensor_noise import upload

from lineside.slots import Area
from lineside_bridge.framing import Framing
from lineside_bridge.sensor import NoiseSettings

CUTS = 8


@pytest.mark.parametrize("road", list(ROADS))
def test_whatever_is_cut_the_old_or_the_new_boots(family: Family, road: str) -> None:
    trial = family.trial(road)
    tally = Tally()
    for cut in trial.sample(CUTS, random.Random(road)):
        trial.go(cut, tally)
    assert tally.bad == []
    assert tally.cuts == CUTS
    assert tally.old + tally.new == CUTS


def test_every_record_of_a_road_is_torn_at_every_byte(family: Family) -> None:
    trial = family.trial("confirm")
    cuts = set(trial.cuts())
    records = {
        number: operation.size
        for number, operation in enumerate(trial.operations)
        if 0 < operation.size <= 1024 and not operation.is_erase
    }
    assert len(records) >= 10
    for number, size in records.items():
        assert {Cut(operation=number, torn_bytes=torn) for torn in range(size + 2)} <= cuts
    assert {cut.operation for cut in cuts} == set(range(len(trial.operations)))
    assert 0 < trial.fork() < len(trial.operations)


class RottingFlash(GuardedFlash):
    """Loses both slots with the power."""

    def restart(self) -> None:
        super().restart()
        for area in (Area.SLOT_A, Area.SLOT_B):
            self.damage(area, 0, b"rot" * 100)


def test_a_state_that_may_not_be_would_be_seen(family: Family) -> None:
    trial = family.trial("confirm")
    delivered = trial._delivered
    rotting = RottingFlash(page_bytes=delivered.page_bytes, slot_bytes=1 << 14)
    rotting.__dict__.update(delivered.clone().__dict__)
    trial._delivered = rotting
    tally = Tally()
    trial.go(Cut(operation=3, torn_bytes=1), tally)
    assert any("boots nothing" in words for words in tally.bad)


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize(
    ("rate", "pieces", "finishes"),
    [(1e-6, 0.0, True), (1e-5, 0.0, True), (1e-4, 0.01, False), (1e-3, 0.0, False)],
)
def test_noise_is_overcome_or_told_and_never_believed(
    family: Family, framing: Framing, rate: float, pieces: float, finishes: bool
) -> None:
    rig = family.rig()
    delivered = rig.flash
    tally = NoiseTally()
    seeds = 4 if finishes else 2  # what ends badly takes long
    for seed in range(seeds):
        rig.flash = delivered.clone()
        noise = NoiseSettings(bit_error_rate=rate, drop=pieces, duplicate=pieces, seed=seed)
        upload(rig, family.new, framing, noise, tally)
    assert tally.wrong == []
    assert sum(tally.ends.values()) == seeds
    if finishes:
        assert tally.ends == {"finished": seeds}


def test_nothing_gets_through_a_line_of_noise_alone(family: Family) -> None:
    rig = family.rig()
    tally = NoiseTally()
    upload(rig, family.new, Framing.CONSOLE, NoiseSettings(bit_error_rate=0.5), tally)
    assert tally.wrong == []
    assert tally.ends["finished"] == 0
