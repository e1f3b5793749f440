"""Several regions of one frame: cut out, judged as one batch, and brought together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from lineside.contract import LimitRule
from lineside.errors import FrameError
from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.verdict import Evaluation, Finding, Reason, Region, Timings, Verdict

_Pixel = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

# What a line must not pass on comes first; of the rest, what says least.
_WORST_FIRST: Final = (
    Evaluation.NOT_OK,
    Evaluation.UNDEFINED,
    Evaluation.NOT_DECIDABLE,
    Evaluation.OK,
)


class RegionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of ``[[bundle.regions]]``: where on the frame to inspect; half-open [x0, x1) by [y0, y1).

    Attributes:
        name: what findings and journal call it.
        x0_px, y0_px, x1_px, y1_px: columns from the left, rows from the top.
    """

    name: str
    x0_px: _Pixel
    y0_px: _Pixel
    x1_px: _Pixel
    y1_px: _Pixel

    def __post_init__(self) -> None:
        if self.x1_px <= self.x0_px or self.y1_px <= self.y0_px:
            raise ValueError(
                f"region {self.name!r} is empty: x1_px must lie beyond x0_px, y1_px beyond y0_px"
            )
        if not self.name or not self.name.isprintable() or len(self.name) > 32:
            raise ValueError(f"region name {self.name!r}: give 1 to 32 printable characters")

    @property
    def region(self) -> Region:
        """As findings have it."""
        return Region(x0_px=self.x0_px, y0_px=self.y0_px, x1_px=self.x1_px, y1_px=self.y1_px)


def cut_out(frame: Frame, settings: RegionSettings) -> Frame:
    """The region as a frame of its own; its pixels are the frame's, not copied.

    Raises:
        FrameError: the frame is too small for it.
    """
    height, width = frame.pixels_hwc.shape[:2]
    if settings.x1_px > width or settings.y1_px > height:
        raise FrameError(
            f"{frame.source or 'frame'}: {height}x{width} pixels (height x width) do not hold the "
            f"region {settings.name}, which ends at {settings.y1_px}x{settings.x1_px}",
            reason=Reason.FRAME_SIZE.value,
        )
    pixels = frame.pixels_hwc[settings.y0_px : settings.y1_px, settings.x0_px : settings.x1_px]
    return Frame(
        pixels_hwc=pixels,
        source=f"{frame.source}[{settings.name}]",
        part_id=frame.part_id,
        captured_unix_ns=frame.captured_unix_ns,
    )


def cut_frames(frame: Frame, regions: Sequence[RegionSettings]) -> list[Frame]:
    """Each region as a frame of its own; without regions the frame itself.

    Raises:
        FrameError: the frame is too small for one of them.
    """
    return [cut_out(frame, region) for region in regions] or [frame]


def find_worst(inspections: Sequence[Inspection], rule: LimitRule) -> int:
    """Which of them decides for the part; the first of several that are as bad."""

    def badness(index: int) -> tuple[int, float]:
        verdict = inspections[index].verdict
        rank = len(_WORST_FIRST) - _WORST_FIRST.index(verdict.evaluation)
        return rank, float("-inf") if verdict.score is None else rule.sign * verdict.score

    return max(range(len(inspections)), key=badness)


def join(
    inspections: Sequence[Inspection], regions: Sequence[RegionSettings], rule: LimitRule
) -> Verdict:
    """The part's verdict: that of its worst region, with the findings of all.

    Args:
        inspections: of each region, at least one.
        regions: where they were.
        rule: which scores are worse.
    """
    worst = find_worst(inspections, rule)
    verdicts = [inspection.verdict for inspection in inspections]
    findings = [
        _on_the_frame(finding, settings)
        for verdict, settings in zip(verdicts, regions, strict=True)
        for finding in verdict.findings
    ]
    detail = verdicts[worst].detail
    return msgspec.structs.replace(
        verdicts[worst],
        detail=f"{regions[worst].name}: {detail}" if detail else "",
        findings=tuple(findings),
        timings=Timings(
            preprocess_us=sum(verdict.timings.preprocess_us for verdict in verdicts),
            infer_us=max(verdict.timings.infer_us for verdict in verdicts),
            decide_us=sum(verdict.timings.decide_us for verdict in verdicts),
        ),
    )


def _on_the_frame(finding: Finding, settings: RegionSettings) -> Finding:
    """Pixels of the region to those of the frame; without a place, the region is the place."""
    inner, outer = finding.region, settings.region
    place = outer
    if inner is not None:
        place = Region(
            x0_px=inner.x0_px + outer.x0_px,
            y0_px=inner.y0_px + outer.y0_px,
            x1_px=inner.x1_px + outer.x0_px,
            y1_px=inner.y1_px + outer.y0_px,
        )
    return msgspec.structs.replace(finding, region=place, at=settings.name)
