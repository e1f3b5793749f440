"""The whole export: candidate in, sealed bundle out, or an error and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from lineside.bundle import Decision, EscapeGuarantee, Identity, PrivateKey
from lineside.contract import ClassificationHead, Contract, LimitRule
from lineside_export.candidate import Candidate
from lineside_export.deciding import (
    RuleWish,
    check_wish,
    choose_limits,
    describe_decision,
    examine_limits,
    scored_parts,
    tighten,
)
from lineside_export.errors import CandidateError, ExportError, GateError
from lineside_export.formats import FLOAT, Format, Source, build_formats, read_source
from lineside_export.gates import Gates, missed_gates
from lineside_export.golden import GoldenTolerance, choose_golden, golden_tolerance, make_golden
from lineside_export.guarantee import Proof
from lineside_export.guarantee_report import write_guarantee_report
from lineside_export.parity import Measurement, Parity, compare, measure
from lineside_export.partscores import PartScores
from lineside_export.report import parity_table, write_report
from lineside_export.seal import Sealed, make_manifest, seal

Progress = Callable[[str], None]
Worse = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to export.

    Attributes:
        out: the bundle to write.
        key: whose seal.
        precision: ``int8`` or ``fp32``.
        engines: whose files go in.
        wish: how score becomes evaluation.
        gates: bounds for int8.
        identity: what the bundle calls itself.
        report: folder for the figures.
        report_on_failure: also when a gate is missed.
    """

    out: Path
    key: PrivateKey
    precision: str
    engines: Sequence[str]
    wish: RuleWish
    gates: Gates = field(default_factory=Gates)
    identity: Identity
    report: Path
    report_on_failure: bool


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was done.

    Attributes:
        sealed: the bundle.
        parity: on the validation samples, with every format.
        formats: all that were built.
        golden_frames: how many went in.
        tolerances: by label of the sealed formats.
        rule: as it was sealed.
        untightened: the same before it was tightened for a promise.
        decision: how it came about.
        guarantee: what it promises; ``None`` where nothing was asked for.
    """

    sealed: Sealed
    parity: Parity
    formats: tuple[Format, ...]
    golden_frames: int
    tolerances: dict[str, GoldenTolerance]
    rule: LimitRule
    untightened: LimitRule
    decision: Decision
    guarantee: EscapeGuarantee | None


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """The rule as it was chosen and as it is sealed, with its evidence."""

    chosen: LimitRule
    rule: LimitRule
    validation: Sequence[PartScores]
    decision: Decision
    proof: Proof | None = None
    guarantee: EscapeGuarantee | None = None


def make_identity(contract: Contract, *, version: str, security_counter: int) -> Identity:
    """What the bundle will call itself, checked now and not after minutes of work.

    Raises:
        ExportError: a word that no manifest takes.
    """
    identity = Identity(
        product=contract.product, version=version, security_counter=security_counter
    )
    try:
        return msgspec.convert(msgspec.to_builtins(identity), Identity)
    except msgspec.ValidationError as error:
        raise ExportError(
            f"identity: {error}; give another --product-version, or train.product to the trainer"
        ) from error


def choose_rule(contract: Contract, *, limit: float | None, worse: Worse | None) -> LimitRule:
    """The rule to seal: the limit given, else the contract's proposal.

    Raises:
        ExportError: neither is there, or it is none for this head.
    """
    rule = _asked_rule(contract, limit=limit, worse=worse)
    if isinstance(contract.head, ClassificationHead) and not (
        rule.worse == "higher" and 0.0 <= rule.ok_limit <= rule.not_ok_limit < 1.0
    ):
        raise ExportError(
            f"limit {rule.not_ok_limit:g}, {rule.worse} is worse: the score of a classification is "
            "the probability of any defect: give a --limit from 0 to below 1, higher being worse"
        )
    return rule


def _asked_rule(contract: Contract, *, limit: float | None, worse: Worse | None) -> LimitRule:
    proposed = contract.proposed_rule
    unit = next(o.unit for o in contract.outputs if o.name == contract.head.output)
    if limit is not None:
        direction = worse or (proposed.worse if proposed is not None else "higher")
        return LimitRule(ok_limit=limit, not_ok_limit=limit, worse=direction, unit=unit)
    if proposed is None:
        raise ExportError(
            "no limit: neither the contract proposes one nor was one given; say which score "
            "parts OK from NOT_OK, e.g. --limit 0.2"
        )
    return proposed


def export_candidate(
    candidate: Candidate, order: Order, *, progress: Progress, show: Progress
) -> Export:
    """Build, prove, seal.

    Args:
        candidate: read and checked.
        order: what to make of it.
        progress: told what is being done.
        show: given the table of parity, before any gate is judged.

    Raises:
        CandidateError: the program does not keep its contract.
        GraphError: a vendor's tool refuses it.
        GateError: a format is too far from the float program.
        ExportError: no limit does what was wished for.
        GuaranteeError: the promise asked for cannot be proven.
        SelfTestError, BundleError, StorageError: while sealing.
    """
    check_wish(candidate, order.wish)
    progress("ONNX graph")
    source = read_source(candidate)
    # Before minutes of quantising: a program that gives NaN is found here.
    references = {
        name: measure_reference(candidate, source, name, order.wish.start)
        for name in ("validation", "golden")
    }
    formats = build_formats(
        candidate, source, engines=order.engines, precision=order.precision, progress=progress
    )
    progress(f"agreement on {len(candidate.samples['validation'])} validation samples")
    start = order.wish.start
    parity = measure_parity(candidate, references["validation"], formats, "validation", start)
    validation = scored_parts(candidate, "validation", _sealed(parity, order), order.wish)
    chosen = choose_limits(validation, order.wish, candidate.contract.head)
    parity = parity.judged(chosen)
    show(parity_table(parity, formats))
    _hold_gates(candidate, order, parity, chosen)
    limits = _settle(candidate, order, chosen, validation, formats, progress)
    if limits.rule != chosen:
        parity = parity.judged(limits.rule)
        _hold_gates(candidate, order, parity, limits.rule)
    progress("golden samples, seal, self-test")
    reference = references["golden"].judged(limits.rule)
    on_golden = measure_parity(candidate, reference, formats, "golden", limits.rule)
    return _seal(candidate, order, formats, parity, on_golden, limits)


def _sealed(parity: Parity, order: Order) -> list[Measurement]:
    """By the very forms that will be sealed."""
    measured = [found.measured for found in parity.comparisons]
    return [found for found in measured if found.precision == order.precision]


def _hold_gates(candidate: Candidate, order: Order, parity: Parity, rule: LimitRule) -> None:
    missed = missed_gates(parity, rule, order.gates)
    if missed and order.report_on_failure:
        write_report(order.report, candidate, parity, rule, missed)
    if missed:
        raise GateError("; ".join(missed) + ". No bundle was written", failures=missed)


def _settle(
    candidate: Candidate,
    order: Order,
    chosen: LimitRule,
    validation: Sequence[PartScores],
    formats: Sequence[Format],
    progress: Progress,
) -> _Limits:
    """Tighten for the promise, where one was asked for; only here are assurance samples run."""
    wish = order.wish
    if wish.promise is None:
        decision = describe_decision(candidate, wish, chosen, validation)
        return _Limits(chosen=chosen, rule=chosen, validation=validation, decision=decision)
    progress(f"guarantee on {len(candidate.samples['assurance'])} assurance samples")
    measured = _run_sealed(candidate, order, formats)
    assurance = scored_parts(candidate, "assurance", measured, wish)
    proof = examine_limits(chosen, wish.promise, validation=validation, assurance=assurance)
    if not proof.proven and order.report_on_failure:
        write_guarantee_report(
            order.report, candidate, chosen, wish.promise, proof, validation, None
        )
    rule, guarantee = tighten(candidate, chosen, wish, proof, assurance)
    decision = describe_decision(candidate, wish, rule, validation)
    return _Limits(
        chosen=chosen,
        rule=rule,
        validation=validation,
        decision=decision,
        proof=proof,
        guarantee=guarantee,
    )


def _run_sealed(candidate: Candidate, order: Order, formats: Sequence[Format]) -> list[Measurement]:
    images = candidate.images_nhwc("assurance")
    return [
        measure(
            format_.entry.engine,
            format_.entry.precision,
            format_.infer(images, candidate.contract),
            targets=candidate.samples["assurance"].targets,
            contract=candidate.contract,
            rule=order.wish.start,
        )
        for format_ in formats
        if format_.entry.precision == order.precision
    ]


def measure_reference(
    candidate: Candidate, source: Source, set_name: str, rule: LimitRule
) -> Measurement:
    """Run the float program on one sample set.

    Raises:
        CandidateError: it fails, gives NaN, or what is no probability where it promises one.
    """
    outputs = source.infer(candidate.images_nhwc(set_name), candidate.contract)
    for name, values in outputs.items():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise CandidateError(
                f"{candidate.program_file}: output {name!r} is not a finite number for {set_name} "
                f"sample {int(bad.argmax())} ({int(bad.sum())} of {len(values)} samples): train "
                "again with a lower learning rate, or look for a division by zero"
            )
    try:
        return measure(
            source.computed_by,
            FLOAT,
            outputs,
            targets=candidate.samples[set_name].targets,
            contract=candidate.contract,
            rule=rule,
        )
    except GateError as error:
        raise CandidateError(f"{candidate.program_file}: {set_name}: {error}") from error


def measure_parity(
    candidate: Candidate,
    reference: Measurement,
    formats: Sequence[Format],
    set_name: str,
    rule: LimitRule,
) -> Parity:
    """Run every format on one sample set, with the device's own engines.

    Raises:
        GateError: a format gives NaN.
        EngineError: an engine refuses a format.
    """
    images = candidate.images_nhwc(set_name)
    comparisons = []
    for format_ in formats:
        measured = measure(
            format_.entry.engine,
            format_.entry.precision,
            format_.infer(images, candidate.contract),
            targets=candidate.samples[set_name].targets,
            contract=candidate.contract,
            rule=rule,
        )
        comparisons.append(compare(reference, measured))
    return Parity(reference=reference, comparisons=tuple(comparisons))


def _write_figures(candidate: Candidate, order: Order, parity: Parity, limits: _Limits) -> None:
    write_report(order.report, candidate, parity, limits.rule, missed=())
    promise = order.wish.promise
    if limits.proof is not None and promise is not None:
        write_guarantee_report(
            order.report,
            candidate,
            limits.chosen,
            promise,
            limits.proof,
            limits.validation,
            limits.guarantee,
        )


def _seal(
    candidate: Candidate,
    order: Order,
    formats: tuple[Format, ...],
    parity: Parity,
    on_golden: Parity,
    limits: _Limits,
) -> Export:
    """Golden samples first: figures beside OUT would say that there is a bundle."""
    sealed_formats = [found for found in formats if found.entry.precision == order.precision]
    keys = [(format_.entry.engine, format_.entry.precision) for format_ in sealed_formats]
    tolerances = [
        golden_tolerance([parity, on_golden], engine=engine, precision=precision)
        for engine, precision in keys
    ]
    golden_set = candidate.samples["golden"]
    chosen = choose_golden(on_golden, tolerances, limits.rule, golden_set.frames_hwc)
    measured = [on_golden.of(engine, precision).measured for engine, precision in keys]
    golden = make_golden(golden_set, chosen, measured, tolerances)
    manifest = make_manifest(
        candidate,
        identity=order.identity,
        rule=limits.rule,
        formats=sealed_formats,
        parity=parity,
        decision=limits.decision,
        guarantee=limits.guarantee,
    )
    _write_figures(candidate, order, parity, limits)
    sealed = seal(order.out, manifest, formats=sealed_formats, golden=golden, key=order.key)
    return Export(
        sealed=sealed,
        parity=parity,
        formats=formats,
        golden_frames=len(golden.frames),
        tolerances={f"{e} {p}": t for (e, p), t in zip(keys, tolerances, strict=True)},
        rule=limits.rule,
        untightened=limits.chosen,
        decision=limits.decision,
        guarantee=limits.guarantee,
    )
