"""What was measured before sealing, and how the limits came about; part of the manifest."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Sha256Hex = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Word = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Drift = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
InnerShare = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
Date = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
PartImages = Literal["together", "each"]
Way = Literal["fixed", "best-f1", "recall", "cost", "overkill"]


class Agreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far one form is from the trainer's float program, on the validation samples.

    Attributes:
        engine, precision: which form.
        batch, threads: how it was computed; a device computes one frame at a time.
        output: which output of the graph.
        samples: how many samples were compared.
        max_abs_drift, mean_abs_drift: |form - float program|, in the output's unit.
        verdict_flips: samples whose evaluation by the rule differs.
        flip_bound: upper end of the exact one-sided 95 % interval of the share that flips.
    """

    engine: Word
    precision: Word
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    output: str
    samples: Count
    max_abs_drift: Drift
    mean_abs_drift: Drift
    verdict_flips: Count
    flip_bound: Share


class PartCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one sealed form judges known parts by the sealed rule.

    Attributes:
        engine, precision: which form.
        bad: bad parts; with ``each`` parts that have a bad image.
        escaped: of these, judged ``OK``.
        bad_reviewed: of these, ``NOT_DECIDABLE``: sent to a human.
        good: good parts; with ``each`` parts that have a good image.
        overkilled: of these, judged ``NOT_OK``.
        good_reviewed: of these, ``NOT_DECIDABLE``.
    """

    engine: Word
    precision: Word
    bad: Count
    escaped: Count
    bad_reviewed: Count
    good: Count
    overkilled: Count
    good_reviewed: Count

    @property
    def review_share(self) -> float:
        """Parts sent to review / parts, 0..1; 0 where there is no part."""
        parts = self.bad + self.good
        return (self.bad_reviewed + self.good_reviewed) / parts if parts else 0.0


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the limits were chosen, before any guarantee tightened them.

    Attributes:
        way: ``fixed`` by who exported; the others chosen on the validation samples.
        wishes: what was asked for, by name, e.g. ``min_recall``.
        part_images: ``together``: a part is ``OK`` when all its images are; ``each``: every image
            is an inspection of its own, and a part escapes by any of its bad images.
        validation: counts by the sealed rule, one for each sealed form; empty where none is known.
        overkill_bound: of ``overkill``: upper end of the exact one-sided 95 % interval of good
            parts judged ``NOT_OK`` / good parts, by each form alone; ``None`` of the other ways,
            whose limits hang on bad parts too.
    """

    way: Way
    wishes: dict[str, float]
    part_images: PartImages
    validation: tuple[PartCounts, ...]
    overkill_bound: Share | None = None


class EscapeGuarantee(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A promise about parts like the assurance parts, and what it rests on.

    Attributes:
        max_escape: bad parts judged ``OK`` / bad parts is at most this.
        confidence: of the promise, e.g. 0.95: of such promises at most 5 % break.
        ok_limit: the loosest limit for which it is proven, in the rule's unit; the rule's own is
            never looser.
        escape_bound: upper end of the exact one-sided interval at that limit, of the worst form.
        limits_tested: how many limits the grid had, fixed before assurance samples were looked at.
        limits_proven: how many of them, from the safest on, passed.
        assurance: counts by the sealed rule, one for each sealed form.
        unknown_samples: assurance samples without a target; left out.
        assurance_sha256: of the assurance samples alone: pixels, targets, parts.
        date: of the export, as who exported gave it.
    """

    max_escape: InnerShare
    confidence: InnerShare
    ok_limit: float
    escape_bound: Share
    limits_tested: Count
    limits_proven: Count
    assurance: tuple[PartCounts, ...]
    unknown_samples: Count
    assurance_sha256: Sha256Hex
    date: Date


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured before sealing.

    Attributes:
        agreements: one for each form and output.
        metrics: by name, finite, e.g. ``validation_mse_openvino_int8``.
        sample_counts: by sample set.
        samples_sha256: of the candidate's samples file.
        unchecked: what the exporting machine could not prove of the target hardware, in words; the
            golden self-test does on the device.
        decision: how the limits were chosen; ``None`` where who sealed did not say.
        guarantee: what they promise; ``None`` where nothing was promised.
    """

    agreements: tuple[Agreement, ...]
    metrics: dict[str, float]
    sample_counts: dict[str, Count]
    samples_sha256: Sha256Hex
    unchecked: tuple[str, ...] = ()
    decision: Decision | None = None
    guarantee: EscapeGuarantee | None = None
