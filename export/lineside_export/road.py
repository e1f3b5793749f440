"""The whole export: candidate in, sealed bundle out, or an error and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from lineside.bundle import Identity, Signer
from lineside.contract import ClassificationHead, Contract, LimitRule
from lineside_export.candidate import Candidate
from lineside_export.errors import CandidateError, ExportError, GateError
from lineside_export.formats import FLOAT, Format, Source, build_formats, read_source
from lineside_export.gates import Gates, missed_gates
from lineside_export.golden import GoldenTolerance, choose_golden, golden_tolerance, make_golden
from lineside_export.parity import Measurement, Parity, compare, measure
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
        rule: score to evaluation.
        gates: bounds for int8.
        identity: what the bundle calls itself.
        licence: of the model, an SPDX expression or words; may be empty.
        report: folder for the figures.
        report_on_failure: also when a gate is missed.
    """

    out: Path
    key: Signer
    precision: str
    engines: Sequence[str]
    rule: LimitRule
    gates: Gates = field(default_factory=Gates)
    identity: Identity
    licence: str = ""
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
    """

    sealed: Sealed
    parity: Parity
    formats: tuple[Format, ...]
    golden_frames: int
    tolerances: dict[str, GoldenTolerance]


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
        SelfTestError, BundleError, StorageError: while sealing.
    """
    progress("ONNX graph")
    source = read_source(candidate)
    # Before minutes of quantising: a program that gives NaN is found here.
    references = {
        name: measure_reference(candidate, source, name, order.rule)
        for name in ("validation", "golden")
    }
    formats = build_formats(
        candidate, source, engines=order.engines, precision=order.precision, progress=progress
    )
    progress(f"agreement on {len(candidate.samples['validation'])} validation samples")
    parity = measure_parity(candidate, references["validation"], formats, "validation", order.rule)
    show(parity_table(parity, formats))
    missed = missed_gates(parity, order.rule, order.gates)
    if missed and order.report_on_failure:
        write_report(order.report, candidate, parity, order.rule, missed)
    if missed:
        raise GateError("; ".join(missed) + ". No bundle was written", failures=missed)
    progress("golden samples, seal, self-test")
    on_golden = measure_parity(candidate, references["golden"], formats, "golden", order.rule)
    return _seal(candidate, order, formats, parity, on_golden)


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


def _seal(
    candidate: Candidate,
    order: Order,
    formats: tuple[Format, ...],
    parity: Parity,
    on_golden: Parity,
) -> Export:
    """Golden samples first: figures beside OUT would say that there is a bundle."""
    sealed_formats = [found for found in formats if found.entry.precision == order.precision]
    keys = [(format_.entry.engine, format_.entry.precision) for format_ in sealed_formats]
    tolerances = [
        golden_tolerance([parity, on_golden], engine=engine, precision=precision)
        for engine, precision in keys
    ]
    golden_set = candidate.samples["golden"]
    chosen = choose_golden(on_golden, tolerances, order.rule, golden_set.frames_hwc)
    measured = [on_golden.of(engine, precision).measured for engine, precision in keys]
    golden = make_golden(golden_set, chosen, measured, tolerances)
    manifest = make_manifest(
        candidate,
        identity=order.identity,
        rule=order.rule,
        formats=sealed_formats,
        parity=parity,
        licence=order.licence,
    )
    write_report(order.report, candidate, parity, order.rule, missed=())
    sealed = seal(order.out, manifest, formats=sealed_formats, golden=golden, key=order.key)
    return Export(
        sealed=sealed,
        parity=parity,
        formats=formats,
        golden_frames=len(golden.frames),
        tolerances={f"{e} {p}": t for (e, p), t in zip(keys, tolerances, strict=True)},
    )
