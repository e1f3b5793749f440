"""The drift reference as a part, pictures in numbers, and what the monitor remembers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lineside.contract import FrameSpec
from lineside.drift import (
    DRIFT_PART,
    DriftMonitor,
    DriftReference,
    DriftSettings,
    FormSpreads,
    PartStatistics,
    PictureStatistics,
    Spread,
    decode_reference,
    effective_parts,
    encode_reference,
    measure_picture,
    tell_promise,
)
from lineside.drift.reference import MAX_VALUES, NAMES, rank
from lineside.errors import BundleFormatError, FrameError, InputDataError

GRAY = FrameSpec(size_hw=None, channels=1)
COLOUR = FrameSpec(size_hw=None, channels=3)
finite = st.floats(-(2.0**100), 2.0**100, width=32)
# Few parts to an alarm, so that tests need few.
QUICK = DriftSettings(parts_per_false_alarm=10_000, block=4)


def reference(**changed: object) -> DriftReference:
    """Of 200 parts: score about 0, embedding about 5, light 0.5, no clipping, focus about -5."""
    random = np.random.default_rng(0)
    sealed = DriftReference(
        of="good",
        parts=200.0,
        light=Spread.from_values(random.normal(0.5, 0.01, 200), "light"),
        clipping=Spread.from_values(np.zeros(200), "clipping"),
        focus=Spread.from_values(random.normal(-5.0, 0.3, 200), "focus"),
        forms=(
            FormSpreads(
                engine="openvino",
                precision="int8",
                score=Spread.from_values(random.normal(0.0, 1.0, 200), "score"),
                embedding=Spread.from_values(random.normal(5.0, 1.0, 200), "embedding"),
            ),
        ),
    )
    return msgspec.structs.replace(sealed, **changed)


def monitor(settings: DriftSettings = QUICK, **changed: object) -> DriftMonitor:
    return DriftMonitor(
        reference(**changed), engine="openvino", precision="int8", settings=settings
    )


def usual(random: np.random.Generator, *, score_by: float = 0.0) -> PartStatistics:
    return PartStatistics(
        score=random.normal(score_by, 1.0),
        embedding=random.normal(5.0, 1.0),
        picture=PictureStatistics(
            light=random.normal(0.5, 0.01), clipping=0.0, focus=random.normal(-5.0, 0.3)
        ),
    )


def feed(watching: DriftMonitor, count: int, *, seed: int, score_by: float = 0.0) -> None:
    random = np.random.default_rng(seed)
    for number in range(count):
        watching.add(usual(random, score_by=score_by), part_id=f"sn{number}")


# The reference


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=finite), st.sampled_from(NAMES))
def test_a_reference_comes_back_as_it_was(values: np.ndarray, name: str) -> None:
    spread = Spread.from_values(values, name)
    before = reference(light=spread)
    data = encode_reference(before)

    after = decode_reference(memoryview(data), source=DRIFT_PART)

    assert after == before
    assert encode_reference(after) == data
    assert spread.ordered == sorted(values.astype(np.float32).tolist())
    assert spread.rank_error == 0.0


def test_of_many_values_the_kept_ones_rank_as_all_would() -> None:
    random = np.random.default_rng(0)
    values = np.sort(random.standard_normal(20_000).astype(np.float32).astype(np.float64))
    spread = Spread.from_values(values, "score")

    assert spread.measured == 20_000
    assert len(spread.ordered) == MAX_VALUES
    assert (spread.ordered[0], spread.ordered[-1]) == (values[0], values[-1])
    errors = [
        abs(rank(spread.ordered, x) - rank(values.tolist(), x)) for x in np.linspace(-5, 5, 501)
    ]
    assert 0.0 < max(errors) <= spread.rank_error


@given(st.binary(max_size=200))
def test_noise_is_no_reference(data: bytes) -> None:
    with pytest.raises(BundleFormatError, match=r"drift\.msgpack"):
        decode_reference(data, source="drift.msgpack")


@pytest.mark.parametrize(
    ("spread", "told"),
    [
        (Spread(values=b"", measured=1), "0 bytes"),
        (Spread(values=b"\0" * 5, measured=2), "5 bytes"),
        (Spread(values=b"\0" * 12, measured=2), "12 bytes"),
        (Spread(values=b"\0" * 4 * 1025, measured=5000), "4100 bytes"),
        (Spread(values=np.float32([np.nan]).tobytes(), measured=1), "not finite"),
        (Spread(values=np.float32([np.inf]).tobytes(), measured=1), "not finite"),
        (Spread(values=np.float32([2, 1]).tobytes(), measured=2), "not sorted"),
    ],
)
@pytest.mark.parametrize("where", ["focus", "openvino int8 embedding"])
def test_values_that_are_none_are_refused_by_name(spread: Spread, told: str, where: str) -> None:
    (form,) = reference().forms
    bad = (
        reference(focus=spread)
        if where == "focus"
        else reference(forms=(msgspec.structs.replace(form, embedding=spread),))
    )
    with pytest.raises(BundleFormatError, match=f"x: {where}: .*{told}.*export the bundle again"):
        decode_reference(encode_reference(bad), source="x")


@pytest.mark.parametrize("change", [{"version": 2}, {"of": "bad"}, {"parts": 0.5}, {"more": 1}])
def test_a_field_outside_its_limits_is_refused(change: dict[str, object]) -> None:
    document = msgspec.to_builtins(reference(), builtin_types=(bytes,)) | change
    with pytest.raises(BundleFormatError, match="no drift reference"):
        decode_reference(msgspec.msgpack.encode(document), source="x")


def test_parts_with_many_images_are_worth_no_more() -> None:
    assert effective_parts([1] * 50) == 50
    assert effective_parts([7] * 50) == pytest.approx(50)
    # One part with as many images as all others: worth little more than three.
    assert effective_parts([100] + [1] * 100) == pytest.approx(200**2 / 10_100)


@given(st.lists(finite, min_size=1, max_size=30), finite)
def test_ranks_count_equal_values_half(values: list[float], value: float) -> None:
    below, equal = sum(v < value for v in values), sum(v == value for v in values)
    assert rank(sorted(values), value) == pytest.approx((below + equal / 2) / len(values))


# Pictures


def textured(side_px: int = 64, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    blocks = random.uniform(60, 190, (side_px // 8, side_px // 8)).astype(np.float32)
    return cv2.resize(blocks, (side_px, side_px), interpolation=cv2.INTER_NEAREST)


def as_pixels(gray_hw: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(gray_hw), 0, 255).astype(np.uint8)[:, :, np.newaxis]


def test_light_is_the_mean_over_full_scale_and_clipping_counts_pixels() -> None:
    frame = np.full((10, 10, 3), 51, np.uint8)
    frame[0, 0] = (255, 51, 51)
    frame[0, 1] = (51, 0, 51)
    found = measure_picture(frame, COLOUR)

    assert found.light == pytest.approx((51 * 300 + 204 - 51) / 300 / 255)
    assert found.clipping == pytest.approx(0.02)


def test_less_light_changes_light_and_not_focus() -> None:
    bright, dim = as_pixels(textured()), as_pixels(0.8 * textured())
    before, after = measure_picture(bright, GRAY), measure_picture(dim, GRAY)

    assert after.light == pytest.approx(0.8 * before.light, rel=0.01)
    assert after.focus == pytest.approx(before.focus, abs=0.05)


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_focus_falls_with_blur_and_noise_does_not_hide_it(noise: float) -> None:
    random = np.random.default_rng(0)
    focus = []
    for sigma in (0.01, 1.0, 2.0, 4.0):
        soft = cv2.GaussianBlur(textured(), (0, 0), sigma)
        noisy = soft + noise * random.standard_normal(soft.shape)
        focus.append(measure_picture(as_pixels(noisy), GRAY).focus)
    # A tenth is what counts as a difference.
    assert all(later < earlier - 0.3 for earlier, later in itertools.pairwise(focus))


def test_a_picture_without_contrast_is_as_unsharp_as_can_be() -> None:
    assert measure_picture(np.full((9, 9, 1), 7, np.uint8), GRAY).focus == -20.0
    assert measure_picture(np.zeros((1, 1, 1), np.uint8), GRAY).focus == -20.0


def test_16_bit_gray_and_colour_say_the_same() -> None:
    eight = as_pixels(textured())
    spec = FrameSpec(size_hw=None, channels=1, bit_depth=16, window=(1000, 1000 + 255 * 16))
    sixteen = (1000 + eight.astype(np.uint16) * 16).astype(np.uint16)
    found = measure_picture(eight, GRAY)

    assert measure_picture(sixteen, spec) == found
    colour = measure_picture(np.repeat(eight, 3, axis=2), COLOUR)
    assert colour.light == pytest.approx(found.light)
    assert colour.focus == pytest.approx(found.focus, abs=0.02)


def test_a_large_picture_says_what_a_part_of_it_says() -> None:
    large = as_pixels(np.tile(textured(64), (33, 41)))
    small = as_pixels(np.tile(textured(64), (16, 16)))
    found, of_part = measure_picture(large, GRAY), measure_picture(small, GRAY)

    assert found.light == pytest.approx(of_part.light, abs=0.01)
    assert found.focus == pytest.approx(of_part.focus, abs=0.1)


def test_a_frame_the_model_was_not_made_for_is_refused() -> None:
    with pytest.raises(FrameError, match="the model takes"):
        measure_picture(np.zeros((4, 4, 3), np.uint8), GRAY)
    with pytest.raises(FrameError):
        measure_picture(np.zeros((0, 4, 1), np.uint8), GRAY)


# The monitor


def test_production_as_the_reference_raises_nothing_and_a_shift_does() -> None:
    watching = monitor()
    feed(watching, 2_000, seed=1)
    before = watching.state
    assert not before.alarm
    assert [s.name for s in before.statistics] == list(NAMES)
    assert all(0.0 <= s.level < 0.8 and not s.raised for s in before.statistics)

    feed(watching, 600, seed=2, score_by=2.0)
    after = watching.state
    (score,) = [s for s in after.statistics if s.alarm]
    assert after.alarm
    assert after.parts == 2_600
    assert score.name == "score"
    assert score.side in ("up", "above")
    assert 2_000 < score.raised <= 2_600
    assert score.raised_part == f"sn{score.raised - 2_001}"
    # Where it began is an estimate: within a few blocks of the truth.
    assert 1_960 <= score.since <= 2_080
    assert score.recent == pytest.approx(2.0, abs=0.5)
    assert score.usual_low < score.usual < score.usual_high < score.recent + 0.5


def test_an_alarm_stays_when_the_drift_goes_and_until_it_is_reset() -> None:
    watching = monitor()
    feed(watching, 600, seed=2, score_by=2.0)
    feed(watching, 3_000, seed=3)
    (score, *_) = watching.state.statistics
    assert score.alarm
    assert score.level < 0.8  # evidence is gone again, the alarm is not

    watching.reset()
    (score, *_) = watching.state.statistics
    assert (score.alarm, score.level, score.since, score.raised_part) == (False, 0.0, 0, "")
    assert watching.state.parts == 3_600
    feed(watching, 600, seed=4, score_by=2.0)
    assert 3_600 < watching.state.statistics[0].since < 3_700


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("score", lambda p: msgspec.structs.replace(p, score=p.score - 3.0)),
        ("embedding", lambda p: msgspec.structs.replace(p, embedding=p.embedding + 3.0)),
        ("light", lambda p: pictured(p, light=p.picture.light * 0.9)),
        ("clipping", lambda p: pictured(p, clipping=0.1)),
        ("focus", lambda p: pictured(p, focus=p.picture.focus - 1.0)),
        ("score", lambda p: msgspec.structs.replace(p, score=math.inf)),
    ],
)
def test_each_statistic_is_found_by_its_name(
    name: str, change: Callable[[PartStatistics], PartStatistics]
) -> None:
    watching, random = monitor(), np.random.default_rng(5)
    for _ in range(400):
        watching.add(change(usual(random)))

    assert [s.name for s in watching.state.statistics if s.alarm] == [name]


def pictured(part: PartStatistics, **changed: float) -> PartStatistics:
    assert part.picture is not None
    return msgspec.structs.replace(part, picture=msgspec.structs.replace(part.picture, **changed))


def test_what_is_below_the_resolution_is_no_drift() -> None:
    """Light that the reference saw at one value only, and that differs by less than a hundredth."""
    still = Spread.from_values([0.5] * 200, "light")
    watching, random = monitor(light=still), np.random.default_rng(0)
    for _ in range(2_000):
        watching.add(pictured(usual(random), light=0.508, clipping=0.004))
    assert not watching.state.alarm
    for _ in range(200):
        watching.add(pictured(usual(random), light=0.512))
    assert [s.name for s in watching.state.statistics if s.alarm] == ["light"]


def test_what_a_part_lacks_is_passed_over_and_nan_says_nothing() -> None:
    watching = monitor()
    for _ in range(500):
        watching.add(PartStatistics(score=math.nan))
        watching.add(PartStatistics())
    state = watching.state

    assert (state.alarm, state.parts) == (False, 1_000)
    assert all(s.values == 0 and s.recent is None and s.level == 0.0 for s in state.statistics)


def test_of_a_form_that_is_not_sealed_pictures_alone_are_watched() -> None:
    watching = DriftMonitor(reference(), engine="onnxruntime", precision="fp32")
    feed(watching, 500, seed=1, score_by=5.0)

    assert [s.name for s in watching.state.statistics] == ["light", "clipping", "focus"]
    assert not watching.state.alarm


def test_frames_worth_keeping_lie_where_the_evidence_points() -> None:
    watching = monitor()
    far, usual_part = PartStatistics(score=4.0), PartStatistics(score=0.0)
    assert not watching.is_drifting(far)  # no suspicion yet

    feed(watching, 600, seed=2, score_by=2.0)
    assert watching.is_drifting(far)
    assert not watching.is_drifting(usual_part)
    assert not watching.is_drifting(PartStatistics(score=-4.0))
    assert not watching.is_drifting(PartStatistics())

    watching.reset()
    assert not watching.is_drifting(far)


def test_regions_of_a_part_do_not_make_false_alarms_more_frequent() -> None:
    alarms = []
    for regions in (1, 100):
        watching = DriftMonitor(
            reference(), engine="openvino", precision="int8", settings=QUICK, regions=regions
        )
        feed(watching, 1_000, seed=2, score_by=2.0)
        alarms.append(watching.state.statistics[0].raised)
    assert 0 < alarms[0] < alarms[1]


# Restarts


@given(st.integers(0, 300))
def test_a_restart_at_any_part_changes_nothing(stop: int) -> None:
    through, first, second = monitor(), monitor(), monitor()
    random = np.random.default_rng(7)
    parts = [usual(random, score_by=1.5) for _ in range(300)]
    for part in parts:
        through.add(part)
    for part in parts[:stop]:
        first.add(part)
    second.restore(first.save())
    assert second.state == first.state
    for part in parts[stop:]:
        second.add(part)

    assert second.state == through.state
    assert second.save() == through.save()


def test_memory_does_not_grow() -> None:
    watching = monitor()
    sizes = []
    for seed in range(3):
        feed(watching, 2_000, seed=seed, score_by=2.0)
        sizes.append(len(watching.save()))
    assert max(sizes) < 8_192
    assert max(sizes) - min(sizes) < 100


@pytest.mark.parametrize(
    "other",
    [
        monitor(DriftSettings(parts_per_false_alarm=10_000, block=5)),
        monitor(parts=199.0),
        DriftMonitor(reference(), engine="openvino", precision="fp32", settings=QUICK),
    ],
    ids=["settings", "bundle", "form"],
)
def test_what_was_saved_of_another_is_refused(other: DriftMonitor) -> None:
    watching = monitor()
    feed(watching, 600, seed=2, score_by=2.0)
    before = watching.save()

    with pytest.raises(InputDataError, match="another bundle, form or"):
        watching.restore(other.save())
    assert watching.save() == before


@given(st.integers(0, 5_000), st.integers(0, 255))
def test_a_damaged_save_is_refused_or_harmless(place: int, value: int) -> None:
    watching = monitor()
    feed(watching, 150, seed=2)
    data = bytearray(watching.save())
    data[place % len(data)] = value
    try:
        watching.restore(bytes(data))
    except InputDataError:
        return
    feed(watching, 20, seed=3)
    assert len(watching.state.statistics) == 5


@given(st.binary(max_size=300))
def test_noise_is_no_save(data: bytes) -> None:
    with pytest.raises(InputDataError, match="damaged"):
        monitor().restore(data)


def test_a_giant_save_is_refused() -> None:
    with pytest.raises(InputDataError, match="damaged"):
        monitor().restore(bytes(2**21))


def test_the_promise_is_told_in_one_line() -> None:
    told = tell_promise(DriftSettings(), reference())
    assert "2,592,000 parts" in told
    assert "99% sure" in told
    assert "200 good parts" in told
