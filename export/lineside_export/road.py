"""The whole export: candidate in, sealed bundle out, or an error and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from lineside.bundle import Identity, Signer
from lineside.contract import ClassificationHead, Contract, LimitRule
from lineside_export.candidate import Candidate
from lineside_export.errors import CandidateError, ExportError, GateError
from lineside_export.formats import FLOAT, Format, Source, read_source
from lineside_export.gates import Gates
from lineside_export.golden import GoldenTolerance, choose_golden, golden_tolerance, make_golden
from lineside_export.parity import Measurement, Parity, measure
from lineside_export.report import forms_table, write_report
from lineside_export.schemes import gather_material
from lineside_export.seal import Sealed, make_manifest, seal
from lineside_export.search import AUTO, Judge, Tried, search, wished_schemes
from lineside_export.targets import Target
from lineside_export.ways import compare_ways

Progress = Callable[[str], None]
Worse = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to export.

    Attributes:
        out: the bundle to write.
        key: who seals.
        target: for which hardware.
        precisions: forms that may be sealed, in order; `AUTO` is what makes sense on the target.
        engines: whose files go in.
        rule: score to evaluation.
        gates: bounds for forms of fewer bits.
        identity: what the bundle calls itself.
        licence: of the model, an SPDX expression or words; may be empty.
        report: folder for the figures.
        report_on_failure: also when a gate is missed.
        sweep: make all forms, measure them, and take the fastest here.
    """

    out: Path
    key: Signer
    target: Target
    precisions: Sequence[str] = (AUTO,)
    engines: Sequence[str]
    rule: LimitRule
    gates: Gates = field(default_factory=Gates)
    identity: Identity
    licence: str = ""
    report: Path
    report_on_failure: bool
    sweep: bool = False


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was done.

    Attributes:
        sealed: the bundle.
        parity: on the validation samples, with every form that could be made.
        tried: all forms; those sealed are marked as chosen.
        golden_frames: how many went in.
        tolerances: by label of the sealed forms.
    """

    sealed: Sealed
    parity: Parity
    tried: tuple[Tried, ...]
    golden_frames: int
    tolerances: dict[str, GoldenTolerance]


def make_identity(
    contract: Contract, *, version: str, security_counter: int, target: str
) -> Identity:
    """What the bundle will call itself, checked now and not after minutes of work.

    Raises:
        ExportError: a word that no manifest takes.
    """
    identity = Identity(
        product=contract.product,
        version=version,
        security_counter=security_counter,
        target=target,
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
        SelfTestError, BundleError, StorageError: while sealing.
    """
    progress("ONNX graph")
    source = read_source(candidate)
    # Before minutes of quantising: a program that gives NaN is found here.
    references = {
        name: measure_reference(candidate, source, name, order.rule)
        for name in ("validation", "golden")
    }
    judge = Judge(
        candidate=candidate,
        images_nhwc=candidate.images_nhwc("validation"),
        reference=references["validation"],
        rule=order.rule,
        gates=order.gates,
    )
    tried = try_forms(candidate, source, judge, order, progress)
    parity = Parity(
        reference=judge.reference,
        comparisons=tuple(f.comparison for f in tried if f.comparison is not None),
    )
    show(forms_table(parity, tried))
    missed = _engines_without(tried, order.engines)
    if missed:
        if order.report_on_failure:
            write_report(order.report, candidate, parity, order.rule, tried)
        raise GateError("; ".join(missed) + ". No bundle was written", failures=missed)
    progress("larger batches, more threads")
    parity = replace(parity, ways=compare_ways(judge, tried))
    progress("golden samples, seal, self-test")
    return _seal(candidate, order, tried, parity, references["golden"])


def try_forms(
    candidate: Candidate, source: Source, judge: Judge, order: Order, progress: Progress
) -> tuple[Tried, ...]:
    """Every engine's forms, as far as they had to be tried."""
    material = gather_material(candidate, source, order.target)
    tried: list[Tried] = []
    for engine in order.engines:
        schemes = wished_schemes(order.precisions, order.target, engine)
        tried += search(engine, schemes, material, judge, progress=progress)
    return tuple(tried)


def _engines_without(tried: Sequence[Tried], engines: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each form that missed, of engines of which none holds."""
    without = [e for e in engines if not any(f.chosen for f in tried if f.engine == e)]
    return tuple(
        f"{found.label}: {words}" if found.made is None else words
        for found in tried
        if found.engine in without
        for words in found.missed
    )


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


def measure_golden(
    candidate: Candidate, reference: Measurement, forms: Sequence[Format], rule: LimitRule
) -> Parity:
    """Run forms on the golden samples, with the device's own engines.

    Raises:
        GateError: a form gives NaN.
        EngineError: an engine refuses a form.
    """
    judge = Judge(
        candidate=candidate,
        images_nhwc=candidate.images_nhwc("golden"),
        set_name="golden",
        reference=reference,
        rule=rule,
    )
    return Parity(reference=reference, comparisons=tuple(judge.compare(made) for made in forms))


def _seal(
    candidate: Candidate,
    order: Order,
    tried: tuple[Tried, ...],
    parity: Parity,
    reference: Measurement,
) -> Export:
    """Golden samples first: figures beside OUT would say that there is a bundle."""
    floats = [f.made for f in tried if f.precision == FLOAT and f.comparison and not f.chosen]
    chosen = [found.made for found in tried if found.chosen and found.made is not None]
    on_golden = measure_golden(
        candidate, reference, [made for made in (*floats, *chosen) if made is not None], order.rule
    )
    keys = [(made.entry.engine, made.entry.precision) for made in chosen]
    tolerances = [
        golden_tolerance([parity, on_golden], engine=engine, precision=precision)
        for engine, precision in keys
    ]
    golden_set = candidate.samples["golden"]
    picked = choose_golden(on_golden, tolerances, order.rule, golden_set.frames_hwc)
    measured = [on_golden.of(engine, precision).measured for engine, precision in keys]
    golden = make_golden(golden_set, picked, measured, tolerances)
    manifest = make_manifest(
        candidate,
        identity=order.identity,
        rule=order.rule,
        target=order.target,
        formats=chosen,
        parity=parity,
        licence=order.licence,
    )
    write_report(order.report, candidate, parity, order.rule, tried)
    sealed = seal(order.out, manifest, formats=chosen, golden=golden, key=order.key)
    return Export(
        sealed=sealed,
        parity=parity,
        tried=tried,
        golden_frames=len(golden.frames),
        tolerances={f"{e} {p}": t for (e, p), t in zip(keys, tolerances, strict=True)},
    )
