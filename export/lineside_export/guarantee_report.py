"""What every limit that was tested would have meant: a JSON document and the picture beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.bundle import EscapeGuarantee
from lineside.contract import LimitRule
from lineside.durable import make_folder, write_durably
from lineside.errors import StorageError
from lineside.metrics.binomial import rate_bound
from lineside_export.candidate import Candidate
from lineside_export.deciding import Promise
from lineside_export.drawing import encode_figure, new_figure
from lineside_export.guarantee import Proof
from lineside_export.partscores import PartScores, count_parts
from lineside_export.report import made_of, origin

GUARANTEE_JSON: Final = "guarantee.json"
GUARANTEE_PNG: Final = "guarantee.png"
_MOST_POINTS: Final = 200


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One limit.

    Attributes:
        ok_limit: in the rule's unit.
        escaped: assurance parts that are bad and judged ``OK``, of the form with most.
        escape_bound: exact one-sided upper end of their rate.
        validation_review: share of validation parts that go to review, of the form with most; the
            NOT_OK limit is the sealed one.
    """

    ok_limit: float
    escaped: int
    escape_bound: float
    validation_review: float


def trace(
    rule: LimitRule, promise: Promise, proof: Proof, validation: Sequence[PartScores]
) -> tuple[Point, ...]:
    """Some of the limits tested, evenly over the grid; the loosest proven one is among them."""
    even = np.linspace(0, len(proof.limits) - 1, _MOST_POINTS).round().astype(np.int64)
    places = np.unique(np.append(even, max(proof.proven - 1, 0)))
    return tuple(_point(int(place), rule, promise, proof, validation) for place in places)


def _point(
    place: int,
    rule: LimitRule,
    promise: Promise,
    proof: Proof,
    validation: Sequence[PartScores],
) -> Point:
    escaped = int(proof.escaped[place])
    tried = msgspec.structs.replace(rule, ok_limit=rule.sign * float(proof.limits[place]) + 0.0)
    return Point(
        ok_limit=tried.ok_limit,
        escaped=escaped,
        escape_bound=rate_bound(escaped, proof.bad, confidence=promise.confidence),
        validation_review=max(count_parts(found, tried).review_share for found in validation),
    )


def forget_guarantee_report(folder: Path) -> None:
    """Remove what an earlier export promised: beside a bundle without a promise it would mislead.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        for name in (GUARANTEE_JSON, GUARANTEE_PNG):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from error


def write_guarantee_report(
    folder: Path,
    candidate: Candidate,
    rule: LimitRule,
    promise: Promise,
    proof: Proof,
    validation: Sequence[PartScores],
    guarantee: EscapeGuarantee | None,
) -> None:
    """Write both.

    Args:
        folder: made where it is missing.
        candidate: whose samples they are.
        rule: before it was tightened.
        promise: what was to be proven.
        proof: of every limit.
        validation: the validation parts.
        guarantee: the evidence; ``None`` where it was refused.

    Raises:
        StorageError: the folder cannot be written.
    """
    points = trace(rule, promise, proof, validation)
    document = {
        **made_of(candidate),
        "promise": promise,
        "bad_parts": proof.bad,
        "guarantee": guarantee,
        "limits": points,
    }
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    below = origin(candidate, f"{len(candidate.samples['assurance'])} assurance samples")
    picture = _draw(rule, promise, proof, points, below)
    make_folder(folder)
    write_durably(folder / GUARANTEE_JSON, [encoded, b"\n"])
    write_durably(folder / GUARANTEE_PNG, [picture])


def _draw(
    rule: LimitRule, promise: Promise, proof: Proof, points: Sequence[Point], below: str
) -> bytes:
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    limits = np.array([point.ok_limit for point in points])
    _draw_escapes(left, limits, promise, proof, points)
    share = 100 * np.array([point.validation_review for point in points])
    right.step(limits, share, where="post", label="to review, validation parts")
    right.set(title="The price", ylabel="% of parts", ylim=(0, 100))
    unit = rule.unit if rule.unit != "1" else ""
    for axes in (left, right):
        if proof.proven:
            sealed = rule.sign * proof.loosest
            axes.axvline(sealed, color="crimson", linestyle="--", label=f"sealed: {sealed:.4g}")
        axes.set(xlabel=f"OK limit {unit}".rstrip())
        axes.legend()
        if rule.worse == "lower":
            axes.invert_xaxis()
    figure.supxlabel(below, fontsize=7)
    return encode_figure(figure)


def _draw_escapes(
    axes: Any,
    limits: NDArray[np.float64],
    promise: Promise,
    proof: Proof,
    points: Sequence[Point],
) -> None:
    bound = 100 * np.array([point.escape_bound for point in points])
    counted = 100 * np.array([point.escaped for point in points]) / max(proof.bad, 1)
    confidence = f"{100 * promise.confidence:g} %"
    axes.step(limits, bound, where="post", label=f"upper bound, {confidence} confidence")
    axes.step(limits, counted, where="post", label=f"counted, of {proof.bad} bad assurance parts")
    axes.axhline(100 * promise.max_escape, color="black", linewidth=0.8, label="promised")
    axes.set(
        title="Escape rate",
        ylabel="% of bad parts",
        ylim=(0, min(100.0, 8 * 100 * promise.max_escape)),
    )
