"""Synthetic joints: physics that holds, pictures that repeat, labels that cannot be guessed."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineside_trainer.data.joints import CYCLES, Inspected, make_part
from lineside_trainer.data.joints.damage import grow_damage
from lineside_trainer.data.joints.layouts import LED_TYPES, heat_weight, pads_mask
from lineside_trainer.data.joints.thermal import b_max, delta_b_max, measure

GRID_PX = 64
seeds = st.integers(0, 2**63 - 1)
led_types = st.sampled_from(LED_TYPES)


@pytest.fixture(scope="module")
def parts() -> list[tuple[Inspected, ...]]:
    return [make_part(number, seed=7, size_px=64) for number in range(135)]


def values(parts: list[tuple[Inspected, ...]], name: str) -> np.ndarray:
    return np.array([[getattr(one, name) for one in part] for part in parts], dtype=np.float64)


def share_explained(feature: np.ndarray, target: np.ndarray) -> float:
    """R² of a straight line."""
    return float(np.corrcoef(feature.ravel(), target.ravel())[0, 1] ** 2)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), seeds)
def test_a_part_is_a_function_of_its_number_and_the_seed(number: int, seed: int) -> None:
    first, second = (make_part(number, seed=seed, size_px=32) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.image_hw.tobytes() == other.image_hw.tobytes()
        assert one.crack_mask_hw.tobytes() == other.crack_mask_hw.tobytes()
        assert (one.b_max, one.delta_b_max) == (other.b_max, other.delta_b_max)


def test_part_numbers_and_seeds_give_different_pictures() -> None:
    pictures = {
        make_part(number, seed=seed, size_px=32)[0].image_hw.tobytes()
        for number in (0, 1, 9)
        for seed in (0, 1, 7)
    }
    assert len(pictures) == 9


def test_the_stream_is_that_of_a_spawned_seed_sequence() -> None:
    child = np.random.SeedSequence(7).spawn(20)[17]
    generator = np.random.Generator(np.random.PCG64(child))
    damage = grow_damage(LED_TYPES[17 % 9], 64, generator)
    solder = pads_mask(LED_TYPES[17 % 9], 64).any(axis=0)
    expected = make_part(17, seed=7, size_px=32)[4].crack_area_fraction
    assert damage.crack(1500).sum() / solder.sum() == expected


@settings(max_examples=30, deadline=None)
@given(led_types, seeds)
def test_cracks_only_grow_and_stay_in_the_solder(led, seed: int) -> None:  # type: ignore[no-untyped-def]
    damage = grow_damage(led, GRID_PX, np.random.Generator(np.random.PCG64(seed)))
    solder = pads_mask(led, GRID_PX).any(axis=0)
    former = damage.crack(0)
    assert not former.any(), "a new part has no cracks"
    for cycles in range(100, 1600, 100):
        crack = damage.crack(cycles)
        assert not (former & ~crack).any()
        assert not (crack & ~solder).any()
        assert not (crack & damage.void).any()
        former = crack
    assert not (damage.void & ~solder).any()
    assert damage.void.any()


@settings(max_examples=30, deadline=None)
@given(led_types, seeds)
@example(LED_TYPES[2], 9_497_118_279_744_818)  # 3 px off
def test_the_first_crack_begins_at_a_void(led, seed: int) -> None:  # type: ignore[no-untyped-def]
    damage = grow_damage(led, GRID_PX, np.random.Generator(np.random.PCG64(seed)))
    first = damage.opening_cycle == damage.opening_cycle.min()
    if damage.opening_cycle.min() < 1e8:  # else no void of this part has a crack
        # Two pixels: half a crack's width and the raster; two more, because where the solder is
        # rough a crack is at first narrower than the raster sees.
        around = cv2.dilate(damage.void.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert (first & around).any()


@settings(max_examples=30, deadline=None)
@given(led_types, seeds)
def test_more_cycles_never_conduct_better(led, seed: int) -> None:  # type: ignore[no-untyped-def]
    damage = grow_damage(led, GRID_PX, np.random.Generator(np.random.PCG64(seed)))
    weight = heat_weight(led, GRID_PX)
    true = [b_max(weight, damage.void, damage.crack(c), led.joint_share) for c in CYCLES]
    assert all(later >= earlier for earlier, later in itertools.pairwise(true))
    nothing = np.zeros_like(damage.void)
    sound = b_max(weight, nothing, nothing, led.joint_share)
    # One time constant: B_max = R / e, and R of a sound part is the unit.
    assert sound == pytest.approx(1 / np.e, rel=1e-6)
    assert true[0] > sound, "voids cost conductance from the start"


def test_the_same_crack_costs_more_below_the_chip() -> None:
    led = LED_TYPES[4]
    weight = heat_weight(led, GRID_PX)
    nothing = np.zeros((GRID_PX, GRID_PX), dtype=np.bool_)
    below_chip, at_edge = nothing.copy(), nothing.copy()
    below_chip[28:36, 28:36] = True
    at_edge[48:56, 28:36] = True
    costs = [b_max(weight, nothing, crack, led.joint_share) for crack in (below_chip, at_edge)]
    assert costs[0] > costs[1] > 1 / np.e


@settings(max_examples=50)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), seeds)
def test_the_first_increase_is_exactly_zero(true: list[float], seed: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    measured = measure(np.array(true), generator)
    increase = delta_b_max(measured)
    assert increase[0] == 0.0
    # Eq. 1 solved for B_max; a few roundings of float64.
    assert np.allclose((increase + 1) * measured[0], measured, rtol=1e-12)


def test_each_led_type_is_told_apart_by_its_pads() -> None:
    assert len(LED_TYPES) == 9
    layouts = [pads_mask(led, GRID_PX) for led in LED_TYPES]
    assert {len(layout) for layout in layouts} == {2, 3}
    for layout in layouts:
        assert (layout.sum(axis=0) <= 1).all(), "pads overlap"
    planes = {layout.any(axis=0).tobytes() for layout in layouts}
    assert len(planes) == 9


def test_pads_are_dark_gaps_voids_and_cracks_are_bright(
    parts: list[tuple[Inspected, ...]],
) -> None:
    for number in range(9):
        young, old = parts[number][0], parts[number][-1]
        solder = pads_mask(LED_TYPES[number], 64)
        # Two pixels inside each border: blur, shift and turn reach that far.
        inner = np.zeros((64, 64), dtype=np.bool_)
        for plane in solder:
            inner |= np.logical_and.reduce(
                [np.roll(plane, (dy, dx), (0, 1)) for dy in (-2, 2) for dx in (-2, 2)]
            )
        sound = inner & (young.void_mask_hw == 0)
        gaps = ~solder.any(axis=0)
        gaps[:6], gaps[-6:], gaps[:, :6], gaps[:, -6:] = False, False, False, False
        dark, bright = np.median(young.image_hw[sound]), np.median(young.image_hw[gaps])
        assert bright > 1.5 * dark
        assert np.median(young.image_hw[young.void_mask_hw > 0]) > 1.2 * dark
        cracked = (old.crack_mask_hw > 0) & inner
        if cracked.sum() > 20:
            clean = inner & (old.crack_mask_hw == 0) & (old.void_mask_hw == 0)
            assert np.median(old.image_hw[cracked]) > 1.2 * np.median(old.image_hw[clean])


def test_masks_are_two_valued_and_lie_as_the_picture_does(
    parts: list[tuple[Inspected, ...]],
) -> None:
    for part in parts[:18]:
        for one in part:
            for mask in (one.crack_mask_hw, one.void_mask_hw):
                assert mask.shape == one.image_hw.shape
                assert set(np.unique(mask)) <= {0, 255}
            assert not ((one.crack_mask_hw > 0) & (one.void_mask_hw > 0)).any()
            # Pixels half covered round up or down: on average nothing is lost or won.
            area = (one.void_mask_hw > 0).mean()
            assert area == pytest.approx(one.void_area_fraction * 0.55, rel=0.35)


def test_the_label_lies_in_the_cracks_not_in_the_brightness(
    parts: list[tuple[Inspected, ...]],
) -> None:
    increase = values(parts, "delta_b_max")
    cracked = values(parts, "crack_area_fraction")
    brightness = np.array([[one.image_hw.mean() for one in part] for part in parts])
    assert np.corrcoef(cracked.ravel(), increase.ravel())[0, 1] > 0.9
    assert share_explained(brightness, increase) < 0.3
    assert share_explained(brightness[:, 4], increase[:, 4]) < 0.3


def test_most_parts_last_for_long_and_some_fail(parts: list[tuple[Inspected, ...]]) -> None:
    beyond = (values(parts, "delta_b_max") > 0.2).mean(axis=0)
    assert beyond[0] == beyond[1] == 0.0
    assert beyond[2] < 0.05
    assert 0.15 < beyond[4] < 0.5
    assert (np.diff(values(parts, "crack_area_fraction"), axis=1) >= 0).all()


def test_acquisitions_of_one_part_differ_though_nothing_else_has_changed(
    parts: list[tuple[Inspected, ...]],
) -> None:
    for first, second, *_ in parts[:9]:
        assert (first.image_hw != second.image_hw).mean() > 0.5
