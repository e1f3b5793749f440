"""What `lineside verify --explain` says of the limits: how they came, and what they promise."""

from __future__ import annotations

from collections.abc import Sequence

from lineside.bundle import Decision, EscapeGuarantee, PartCounts
from lineside.cli.table import format_table

_WAYS = {
    "fixed": "given by who exported",
    "best-f1": "chosen for the best F1 on the validation parts",
    "recall": "chosen for a recall on the validation parts",
    "cost": "chosen for the least cost on the validation parts",
    "overkill": "chosen for few good validation parts NOT_OK, whatever bad ones score",
}
_COUNTED = {
    "together": "a part is OK when all its images are",
    "each": "every image is an inspection; a part escapes by any bad image that is judged OK",
}


def tell_decision(decision: Decision | None) -> str:
    """How the limits were chosen."""
    if decision is None:
        return "not stated"
    lines = [
        f"limits   {tell_way(decision)}",
        f"counted  by part: {_COUNTED[decision.part_images]}",
    ]
    if decision.overkill_bound is not None:
        lines.append(f"bound    {tell_overkill(decision.overkill_bound)}")
    if decision.validation:
        lines += ["", tabulate_counts(decision.validation)]
    return "\n".join(lines)


def tell_way(decision: Decision) -> str:
    """Who set the limits, and what was asked for."""
    wishes = ", ".join(f"{name} {value:g}" for name, value in sorted(decision.wishes.items()))
    return _WAYS[decision.way] + (f": {wishes}" if wishes else "")


def tell_overkill(bound: float) -> str:
    """How many good parts may be judged NOT_OK, by the good validation parts counted."""
    return (
        f"{100 * bound:.3g} % of good parts NOT_OK at most, with 95 % confidence, among parts like "
        "the good validation parts"
    )


def tell_guarantee(guarantee: EscapeGuarantee | None) -> str:
    """What the limits promise, and what that rests on."""
    if guarantee is None:
        return "none: nothing is promised about parts that were not measured"
    return "\n".join(
        [
            f"at most {100 * guarantee.max_escape:g} % of bad parts are judged OK, with "
            f"{100 * guarantee.confidence:g} % confidence, among parts like the assurance parts",
            "",
            f"proven   for an OK limit up to {guarantee.ok_limit:g}; of {guarantee.limits_tested} "
            f"limits tried from the safest on, {guarantee.limits_proven} hold",
            f"bound    {100 * guarantee.escape_bound:.3g} % escapes at most, by the counts below",
            f"samples  SHA-256 {guarantee.assurance_sha256}, {guarantee.unknown_samples} without a "
            "target left out",
            f"date     {guarantee.date}",
            "",
            tabulate_counts(guarantee.assurance),
        ]
    )


def tabulate_counts(counted: Sequence[PartCounts]) -> str:
    """Parts by what they are and how they are judged, one row a form."""
    head = ("engine", "precision", "bad", "escaped", "good", "overkilled", "to review")
    rows = [
        (
            *(found.engine, found.precision, str(found.bad), str(found.escaped)),
            *(str(found.good), str(found.overkilled)),
            f"{found.bad_reviewed + found.good_reviewed} ({100 * found.review_share:.1f} %)",
        )
        for found in counted
    ]
    return format_table(head, rows, right=(2, 3, 4, 5, 6))
