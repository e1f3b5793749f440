"""The whole export: candidate in, sealed bundle out, or an error and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lineside.contract import LimitRule
from lineside.golden import GoldenSamples
from lineside_export.candidate import Candidate
from lineside_export.choosing import choose_forms, engines_without
from lineside_export.deciding import check_wish, choose_limits, scored_parts
from lineside_export.drift_reference import make_drift_reference
from lineside_export.embedding import embed
from lineside_export.embedding_output import Sealable, with_embedding
from lineside_export.errors import ExportError, GateError
from lineside_export.formats import Source, read_source
from lineside_export.gates import cannot_judge
from lineside_export.golden import GoldenTolerance, choose_golden, golden_tolerance, make_golden
from lineside_export.guarantee_report import forget_guarantee_report, write_guarantee_report
from lineside_export.order import Order
from lineside_export.parity import Measurement, Parity
from lineside_export.partscores import count_parts
from lineside_export.reference import measure_reference
from lineside_export.report import forms_table, write_report
from lineside_export.seal import Sealed, make_manifest, seal
from lineside_export.search import (
    Judge,
    Tried,
    sealed_forms,
)
from lineside_export.settling import Settled, settle
from lineside_export.ways import compare_ways

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was done.

    Attributes:
        sealed: the bundle.
        parity: on the validation samples, with every form that could be made.
        tried: all forms; those sealed are marked as chosen.
        golden_frames: how many went in.
        tolerances: by label of the sealed forms.
        settled: the rule as it was sealed, and how it came about.
    """

    sealed: Sealed
    parity: Parity
    tried: tuple[Tried, ...]
    golden_frames: int
    tolerances: dict[str, GoldenTolerance]
    settled: Settled


def export_candidate(
    candidate: Candidate, order: Order, *, progress: Progress, show: Progress
) -> Export:
    """Make forms, prove them, choose, seal.

    Args:
        candidate: read and checked.
        order: what to make of it.
        progress: told what is being done.
        show: given the table of forms, whether or not one may be sealed.

    Raises:
        CandidateError: the program does not keep its contract.
        GraphError: it cannot be translated.
        GateError: an engine has no form that holds.
        ExportError: no limit does what was wished for, or a rate is bounded that nobody can count.
        GuaranteeError: the promise asked for cannot be proven.
        SelfTestError, BundleError, StorageError: while sealing.
    """
    check_wish(candidate, order.wish)
    progress("ONNX graph")
    source = read_source(candidate)
    # Before minutes of quantising: a program that gives NaN is found here.
    judge = make_judge(candidate, source, order)
    on_golden = measure_reference(candidate, source, "golden", order.wish.start)
    judge, tried = choose_forms(candidate, source, order, judge, progress)
    show(forms_table(judge.reference, tried))
    _hold(candidate, order, judge, tried)
    settled = settle(
        candidate,
        order.wish,
        sealed_forms(tried),
        [f.comparison.measured for f in tried if f.chosen and f.comparison is not None],
        refused_report=order.report if order.report_on_failure else None,
        progress=progress,
    )
    if settled.rule != judge.rule:
        judge = judge.judging_by(settled.rule)
        tried = tuple(judge.again(found) for found in tried)
        _hold(candidate, order, judge, tried)
    progress("larger batches, more threads")
    parity = replace(_parity(judge, tried), ways=compare_ways(judge, tried))
    progress("golden samples, seal, self-test")
    reference = on_golden.judged(settled.rule)
    return _seal(candidate, source, order, tried, parity, reference, settled)


def make_judge(candidate: Candidate, source: Source, order: Order) -> Judge:
    """Who holds forms against the gates, by the limits that the float program's scores suggest."""
    wish = order.wish
    reference = measure_reference(candidate, source, "validation", wish.start)
    scored = scored_parts(candidate, "validation", [reference], wish)
    rule = choose_limits(scored, wish, candidate.contract.head)
    unjudged = cannot_judge(count_parts(scored[0], rule), order.gates)
    if unjudged:
        raise ExportError(unjudged)
    return Judge(
        candidate=candidate,
        images_nhwc=candidate.images_nhwc("validation"),
        reference=reference.judged(rule),
        rule=rule,
        wish=wish,
        gates=order.gates,
    )


def _parity(judge: Judge, tried: Sequence[Tried]) -> Parity:
    comparisons = tuple(f.comparison for f in tried if f.comparison is not None)
    return Parity(reference=judge.reference, comparisons=comparisons)


def _hold(candidate: Candidate, order: Order, judge: Judge, tried: Sequence[Tried]) -> None:
    """Every engine needs a form that holds."""
    without = engines_without(order.engines, tried)
    if not without:
        return
    if order.report_on_failure:
        write_report(order.report, candidate, _parity(judge, tried), judge.rule, tried)
    missed = tuple(
        f"{found.label}: {words}"
        for found in tried
        if found.engine in without
        for words in found.missed
    )
    raise GateError("; ".join(missed) + ". No bundle was written", failures=missed)


def _prove_golden(
    candidate: Candidate,
    source: Source,
    tried: Sequence[Tried],
    parity: Parity,
    reference: Measurement,
    rule: LimitRule,
) -> tuple[GoldenSamples, dict[str, GoldenTolerance]]:
    """The golden samples, and the tolerances of the sealed forms by label."""
    images_nhwc = candidate.images_nhwc("golden")
    judge = Judge(
        candidate=candidate,
        set_name="golden",
        images_nhwc=images_nhwc,
        reference=reference,
        rule=rule,
    )
    on_golden = Parity(
        reference=reference,
        comparisons=tuple(judge.compare(made) for made in sealed_forms(tried, with_floats=True)),
    )
    tolerances = {
        made.label: golden_tolerance(
            [parity, on_golden], engine=made.entry.engine, precision=made.entry.precision
        )
        for made in sealed_forms(tried)
    }
    measured = [
        on_golden.of(made.entry.engine, made.entry.precision).measured
        for made in sealed_forms(tried)
    ]
    golden_set, limits = candidate.samples["golden"], list(tolerances.values())
    seen = embed(source.model, images_nhwc, candidate)
    picked = choose_golden(on_golden, limits, rule, golden_set.frames_hwc, seen)
    return make_golden(golden_set, picked, measured, limits), tolerances


def _seal(
    candidate: Candidate,
    source: Source,
    order: Order,
    tried: tuple[Tried, ...],
    parity: Parity,
    reference: Measurement,
    settled: Settled,
) -> Export:
    """Golden samples first: figures beside OUT would say that there is a bundle."""
    golden, tolerances = _prove_golden(candidate, source, tried, parity, reference, settled.rule)
    forms = sealed_forms(tried)
    sealable = with_embedding(
        Sealable(
            candidate=candidate,
            formats=forms,
            measured=tuple(parity.of(f.entry.engine, f.entry.precision).measured for f in forms),
            golden=golden,
        ),
        source,
    )
    manifest = make_manifest(
        sealable.candidate,
        identity=order.identity,
        rule=settled.rule,
        target=order.target,
        formats=forms,
        parity=parity,
        decision=settled.decision,
        guarantee=settled.guarantee,
        licence=order.licence,
    )
    sealed = seal(
        order.out,
        manifest,
        formats=sealable.formats,
        given=sealable.candidate,
        golden=sealable.golden,
        drift=make_drift_reference(candidate, sealable.measured, order.wish.start),
        key=order.key,
        write_figures=lambda: _write_figures(candidate, order, parity, tried, settled),
    )
    return Export(
        sealed=sealed,
        parity=parity,
        tried=tried,
        golden_frames=len(golden.frames),
        tolerances=tolerances,
        settled=settled,
    )


def _write_figures(
    candidate: Candidate, order: Order, parity: Parity, tried: Sequence[Tried], settled: Settled
) -> None:
    write_report(order.report, candidate, parity, settled.rule, tried, settled.decision)
    if settled.proof is not None and order.wish.promise is not None:
        write_guarantee_report(
            order.report,
            candidate,
            settled.chosen,
            order.wish.promise,
            settled.proof,
            settled.validation,
            settled.guarantee,
        )
    else:
        forget_guarantee_report(order.report)
