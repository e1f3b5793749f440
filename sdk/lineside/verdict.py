"""What the line hears about a part: the evaluation, why, and how long it took."""

from __future__ import annotations

from enum import Enum, IntEnum

import msgspec


class Evaluation(IntEnum):
    """OPC 40001-101 ``ResultEvaluationEnum``: the numbers a PLC sees."""

    UNDEFINED = 0
    OK = 1
    NOT_OK = 2
    NOT_DECIDABLE = 3


class Reason(str, Enum):
    """Why the evaluation is what it is; ``code`` is the number a PLC sees (docs/plc.md)."""

    WITHIN_LIMIT = "within_limit"
    BEYOND_LIMIT = "beyond_limit"
    BETWEEN_LIMITS = "between_limits"
    SCORE_NOT_FINITE = "score_not_finite"
    FRAME_MISSING = "frame_missing"
    FRAME_DECODE = "frame_decode"
    FRAME_SIZE = "frame_size"
    FRAME_CHANNELS = "frame_channels"
    FRAME_DEPTH = "frame_depth"
    FRAME_FROZEN = "frame_frozen"
    FRAME_BLACK = "frame_black"
    PART_MISSING = "part_missing"
    PRODUCT_UNKNOWN = "product_unknown"
    ENGINE = "engine"
    DEADLINE = "deadline"
    OVERLOAD = "overload"
    PAUSED = "paused"
    DISK = "disk"

    @property
    def code(self) -> int:
        """The number on the wire; it never changes once released."""
        return REASON_CODES[self]


REASON_CODES: dict[Reason, int] = {
    Reason.WITHIN_LIMIT: 0,
    Reason.BEYOND_LIMIT: 1,
    Reason.BETWEEN_LIMITS: 2,
    Reason.SCORE_NOT_FINITE: 3,
    Reason.FRAME_MISSING: 10,
    Reason.FRAME_DECODE: 11,
    Reason.FRAME_SIZE: 12,
    Reason.FRAME_CHANNELS: 13,
    Reason.FRAME_DEPTH: 14,
    Reason.FRAME_FROZEN: 15,
    Reason.FRAME_BLACK: 16,
    Reason.PART_MISSING: 17,
    Reason.PRODUCT_UNKNOWN: 18,
    Reason.ENGINE: 20,
    Reason.DEADLINE: 21,
    Reason.OVERLOAD: 22,
    Reason.PAUSED: 23,
    Reason.DISK: 30,
}


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds by stage, from a monotonic clock."""

    preprocess_us: float = 0.0
    infer_us: float = 0.0
    decide_us: float = 0.0

    @property
    def total_us(self) -> float:
        """Sum of the stages inside ``inspect``."""
        return self.preprocess_us + self.infer_us + self.decide_us


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle of the frame as it was acquired, half-open: [x0, x1) by [y0, y1).

    Pixels of the frame, not of the model's input: columns from the left, rows from the top.
    """

    x0_px: int
    y0_px: int
    x1_px: int
    y1_px: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A defect that the machine claims; whether it is one, a human or a measurement confirms.

    What a model does not know stays ``None``: one that tells kinds apart knows no place, one that
    only knows good parts knows no probability.

    Attributes:
        name: which kind, as the training data calls it; ``anomaly`` where there are no kinds.
        probability: that it is of this kind, by the model, 0..1.
        region: where; what holds all of it.
        area_px: how many pixels of the frame belong to it, of those in ``region``.
        peak: the map's largest value there, in the map's unit.
        at: which region of the frame was inspected, as ``station.toml`` calls it; ``""`` where
            the frame was inspected whole.
    """

    name: str
    probability: float | None = None
    region: Region | None = None
    area_px: int | None = None
    peak: float | None = None
    at: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One inspection's result.

    Attributes:
        evaluation: what the PLC acts on.
        reason: why; a fault never comes with ``OK``.
        detail: for people: the fault in words; empty when there is none.
        score: the head's score in ``unit``; ``None`` where none could be computed.
        limit: the limit that the score was held against, in ``unit``.
        unit: of score and limit, e.g. ``"1"`` or ``"mm"``.
        product: what kind of part the bundle judges.
        model: first 16 hex digits of the bundle's hash.
        engine: which engine computed it, with precision, e.g. ``openvino/int8``.
        part_id: the physical part, ``""`` where unknown.
        job_id: one execution on one part; unique for ever.
        timings: microseconds by stage.
        findings: what speaks against a part that is not ``OK``, the strongest first; empty where
            the model knows neither kinds of defect nor their place.
    """

    evaluation: Evaluation
    reason: Reason
    detail: str = ""
    score: float | None = None
    limit: float | None = None
    unit: str = ""
    product: str = ""
    model: str = ""
    engine: str = ""
    part_id: str = ""
    job_id: str = ""
    timings: Timings = Timings()
    findings: tuple[Finding, ...] = ()
