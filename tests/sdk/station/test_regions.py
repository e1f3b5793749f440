"""Several regions of one frame: cut, judged as a batch, the worst decides."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_bundle import TinyBundle

import lineside
from lineside.contract import LimitRule
from lineside.errors import FrameError
from lineside.frame import Frame, read_frame
from lineside.inspector import Inspection
from lineside.station.regions import RegionSettings, cut_out, find_worst, join
from lineside.verdict import Evaluation, Finding, Reason, Region, Timings, Verdict

RULE = LimitRule(ok_limit=0.4, not_ok_limit=0.5)
LEFT = RegionSettings(name="J1", x0_px=0, y0_px=1, x1_px=4, y1_px=5)
RIGHT = RegionSettings(name="J2", x0_px=4, y0_px=1, x1_px=8, y1_px=5)


def inspection(
    evaluation: Evaluation, score: float | None = None, *findings: Finding, detail: str = ""
) -> Inspection:
    verdict = Verdict(
        evaluation=evaluation,
        reason=Reason.BEYOND_LIMIT,
        detail=detail,
        score=score,
        findings=findings,
        timings=Timings(preprocess_us=1.0, infer_us=5.0, decide_us=2.0),
    )
    return Inspection(verdict=verdict)


def test_a_region_is_a_view_of_the_frame() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8, 1)
    cut = cut_out(Frame(pixels_hwc=pixels, source="cam", part_id="B7"), RIGHT)
    assert np.array_equal(cut.pixels_hwc, pixels[1:5, 4:8])
    assert np.shares_memory(cut.pixels_hwc, pixels)
    assert (cut.source, cut.part_id) == ("cam[J2]", "B7")


@pytest.mark.parametrize("shape", [(4, 8, 1), (6, 7, 1)])
def test_a_frame_that_does_not_hold_the_region_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(FrameError, match="do not hold the region J2") as caught:
        cut_out(Frame(pixels_hwc=np.zeros(shape, np.uint8)), RIGHT)
    assert caught.value.reason == "frame_size"


@pytest.mark.parametrize(
    "wrong",
    [
        {"x1_px": 0},
        {"y1_px": 1},
        {"x0_px": -1},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 33},
    ],
)
def test_a_region_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    given = {"name": "J1", "x0_px": 0, "y0_px": 1, "x1_px": 4, "y1_px": 5, **wrong}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, RegionSettings)


def test_what_must_not_pass_is_the_worst() -> None:
    order = [Evaluation.NOT_OK, Evaluation.UNDEFINED, Evaluation.NOT_DECIDABLE, Evaluation.OK]
    for index in range(4):
        some = [inspection(evaluation, 0.9) for evaluation in reversed(order[index:])]
        assert some[find_worst(some, RULE)].verdict.evaluation is order[index]


def test_of_two_as_bad_the_worse_score_decides_by_the_rule_s_direction() -> None:
    some = [inspection(Evaluation.NOT_OK, score) for score in (0.6, 0.9, 0.7)]
    assert find_worst(some, RULE) == 1
    lower = LimitRule(ok_limit=1.0, not_ok_limit=0.9, worse="lower")
    assert find_worst(some, lower) == 0
    assert find_worst([inspection(Evaluation.OK), inspection(Evaluation.OK, 0.1)], RULE) == 1


def test_the_part_s_verdict_is_the_worst_region_s_with_the_findings_of_all() -> None:
    placed = Finding(name="void", region=Region(x0_px=1, y0_px=0, x1_px=3, y1_px=2))
    verdict = join(
        [
            inspection(Evaluation.NOT_DECIDABLE, None, Finding(name="bridge"), detail="dark"),
            inspection(Evaluation.NOT_OK, 0.8, placed),
        ],
        [LEFT, RIGHT],
        RULE,
    )
    assert (verdict.evaluation, verdict.score, verdict.detail) == (Evaluation.NOT_OK, 0.8, "")
    assert verdict.findings == (
        Finding(name="bridge", at="J1", region=LEFT.region),
        Finding(name="void", at="J2", region=Region(x0_px=5, y0_px=1, x1_px=7, y1_px=3)),
    )
    assert verdict.timings == Timings(preprocess_us=2.0, infer_us=5.0, decide_us=4.0)


def test_a_detail_says_which_region_it_is_of() -> None:
    some = [inspection(Evaluation.OK, 0.1), inspection(Evaluation.NOT_DECIDABLE, detail="dark")]
    assert join(some, [LEFT, RIGHT], RULE).detail == "J2: dark"


def test_a_batch_is_judged_as_its_frames_are_alone(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    with lineside.load(
        tiny_bundle.path, trust=tiny_bundle.public_key_path, engine="onnxruntime", threads=1
    ) as inspector:
        frames = [read_frame(path) for path in tiny_bundle.frames]
        wrong = Frame(pixels_hwc=np.zeros((3, 3, 2), np.uint8), source="wrong")
        batch = inspector.inspect_batch([*frames[:1], wrong, *frames[1:]])
        assert batch[1].verdict.reason is Reason.FRAME_CHANNELS
        for together, frame in zip([batch[0], *batch[2:]], frames, strict=True):
            alone = inspector.inspect(frame)
            assert together.verdict.evaluation is alone.evaluation
            assert together.verdict.score == pytest.approx(alone.score, rel=1e-5)
        assert inspector.inspect_batch([]) == []
