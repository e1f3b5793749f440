"""The limits that are sealed: chosen by the sealed forms' scores, tightened for a promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.bundle import Decision, EscapeGuarantee
from lineside.contract import LimitRule
from lineside_export.candidate import Candidate
from lineside_export.deciding import (
    RuleWish,
    choose_limits,
    describe_decision,
    examine_limits,
    scored_parts,
    tighten,
)
from lineside_export.formats import Format
from lineside_export.guarantee import Proof
from lineside_export.guarantee_report import write_guarantee_report
from lineside_export.parity import Measurement, measure
from lineside_export.partscores import PartScores


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The rule with its evidence.

    Attributes:
        chosen: without any promise.
        rule: as it is sealed.
        validation: the validation parts by each sealed form.
        decision: how it came about.
        proof: every limit that was tested for the promise; ``None`` where none was asked for.
        guarantee: what is promised; ``None`` likewise.
    """

    chosen: LimitRule
    rule: LimitRule
    validation: Sequence[PartScores]
    decision: Decision
    proof: Proof | None = None
    guarantee: EscapeGuarantee | None = None


def settle(
    candidate: Candidate,
    wish: RuleWish,
    forms: Sequence[Format],
    measured: Sequence[Measurement],
    *,
    refused_report: Path | None,
    progress: Callable[[str], None],
) -> Settled:
    """Choose on the validation parts; tighten for the promise, where one was asked for.

    Only here are assurance samples run.

    Args:
        candidate: whose samples.
        wish: what was asked for.
        forms: to be sealed.
        measured: they, on the validation samples.
        refused_report: where to write the figures of a promise that cannot be kept; ``None``:
            nowhere.
        progress: told what is being done.

    Raises:
        ExportError: no limit does what was wished for.
        GuaranteeError: the promise asked for cannot be proven.
    """
    validation = scored_parts(candidate, "validation", measured, wish)
    chosen = choose_limits(validation, wish, candidate.contract.head)
    if wish.promise is None:
        decision = describe_decision(candidate, wish, chosen, validation)
        return Settled(chosen=chosen, rule=chosen, validation=validation, decision=decision)
    progress(f"guarantee on {len(candidate.samples['assurance'])} assurance samples")
    assurance = scored_parts(candidate, "assurance", _run(candidate, wish, forms), wish)
    proof = examine_limits(chosen, wish.promise, validation=validation, assurance=assurance)
    if not proof.proven and refused_report is not None:
        write_guarantee_report(
            refused_report, candidate, chosen, wish.promise, proof, validation, None
        )
    rule, guarantee = tighten(candidate, chosen, wish, proof, assurance)
    return Settled(
        chosen=chosen,
        rule=rule,
        validation=validation,
        decision=describe_decision(candidate, wish, rule, validation),
        proof=proof,
        guarantee=guarantee,
    )


def _run(candidate: Candidate, wish: RuleWish, forms: Sequence[Format]) -> list[Measurement]:
    images = candidate.images_nhwc("assurance")
    return [
        measure(
            made.entry.engine,
            made.entry.precision,
            made.infer(images, candidate),
            targets=candidate.samples["assurance"].targets,
            contract=candidate.contract,
            rule=wish.start,
        )
        for made in forms
    ]
