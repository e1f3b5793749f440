"""What `lineside verify` finds out and says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from lineside.bundle import Bundle, Manifest, ModelEntry
from lineside.choose import find_obstacle
from lineside.cli.document import format_document
from lineside.cli.table import format_table
from lineside.cli.verify_decision import tell_decision, tell_guarantee
from lineside.cli.verify_drift import list_watched, read_reference, tell_drift
from lineside.contract import AnomalyHead, Contract, HeadSpec, LabelledHead, LimitRule
from lineside.drift import DriftReference
from lineside.engines import EngineSettings, open_engine
from lineside.errors import EngineError
from lineside.selftest import OutputDrift, SelfTestResult, measure_selftest


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One form of the model on this machine.

    Attributes:
        status: ``skipped`` where this copy or this machine has no means to try it.
        detail: why it failed or was skipped.
        outputs: numeric drift of each output; empty unless the golden frames went through.
        verdict_flips: golden frames whose evaluation differs; ``None`` likewise.
    """

    engine: str
    precision: str
    status: Literal["passed", "failed", "skipped"]
    detail: str = ""
    outputs: tuple[OutputDrift, ...] = ()
    verdict_flips: int | None = None


def prove(bundle: Bundle, engine: str) -> list[Proof]:
    """Run the golden self-test with every form that the machine can run.

    Args:
        bundle: opened and verified.
        engine: ``auto``, ``none`` or one engine's name.

    Raises:
        EngineError: nothing could be tried, though a test was asked for.
    """
    if engine == "none":
        return []
    wanted = [model for model in bundle.manifest.models if engine in ("auto", model.engine)]
    proofs = [_prove_one(bundle, model) for model in wanted]
    if all(proof.status == "skipped" for proof in proofs):
        why = "; ".join(f"{p.engine}/{p.precision}: {p.detail}" for p in proofs)
        raise EngineError(
            f"{bundle.path}: signature and hashes hold, but nothing can be proved here: "
            f"{why or f'the bundle has no model for {engine}'}; --engine none leaves the proof out"
        )
    return proofs


def _prove_one(bundle: Bundle, model: ModelEntry) -> Proof:
    named = Proof(engine=model.engine, precision=model.precision, status="skipped")
    obstacle = find_obstacle(bundle, model)
    if obstacle:
        return msgspec.structs.replace(named, detail=obstacle)
    try:
        engine = open_engine(model, bundle.part, bundle.manifest.contract, EngineSettings())
        try:
            result = measure_selftest(bundle, engine)
        finally:
            engine.close()
    except EngineError as error:
        return msgspec.structs.replace(named, status="failed", detail=str(error))
    return _judge(named, result)


def _judge(named: Proof, result: SelfTestResult) -> Proof:
    return msgspec.structs.replace(
        named,
        status="passed" if result.passed else "failed",
        detail="" if result.passed else result.told(),
        outputs=result.outputs,
        verdict_flips=result.verdict_flips,
    )


def as_json(bundle: Bundle, proofs: Sequence[Proof], *, explain: bool) -> str:
    """One document; `--explain` adds the whole manifest, and what drift is held against."""
    manifest = bundle.manifest
    document = {
        "bundle": str(bundle.path),
        "hash": bundle.hash,
        "model": bundle.model_id,
        "signer": {"key_id": bundle.signer.key_id.hex(), "name": bundle.signer.name},
        "identity": manifest.identity,
        "parts_present": bundle.present,
        "parts_left_out": [p.name for p in manifest.parts if p.name not in bundle.present],
        "self_tests": [
            {**msgspec.structs.asdict(proof), "passed": proof.status == "passed"}
            for proof in proofs
        ],
    }
    if explain:
        document["manifest"] = manifest
        reference = read_reference(bundle)
        document["drift_reference"] = reference and {
            "of": reference.of,
            "parts": reference.parts,
            "statistics": list_watched(reference),
        }
    return format_document(document)


def summarise(bundle: Bundle) -> str:
    """What holds, in four lines."""
    identity = bundle.manifest.identity
    table = bundle.manifest.parts
    present = [part for part in table if part.name in bundle.present]
    size_bytes = sum(part.size_bytes for part in present)
    return "\n".join(
        [
            f"{bundle.path}: the seal holds, and every part is as it was sealed",
            f"product    {identity.product}, version {identity.version}",
            f"sealed by  {bundle.signer.name}, key {bundle.signer.key_id.hex()}",
            f"hash       {bundle.hash}",
            f"parts      {len(present)} of {len(table)} in this copy, {size_bytes:,} bytes",
        ]
    )


def tabulate(proofs: Sequence[Proof]) -> str:
    """The golden self-test, one row an output."""
    rows: list[tuple[str, ...]] = []
    for proof in proofs:
        form = (proof.engine, proof.precision)
        if not proof.outputs:
            rows.append((*form, "", "", "", "", "", f"{proof.status}: {proof.detail}"))
        for drift in proof.outputs:
            figures = (f"{drift.max_abs_drift:.3g}", f"{drift.tolerance_abs:.3g}")
            tail = (str(proof.verdict_flips), proof.status)
            rows.append((*form, drift.output, str(drift.samples), *figures, *tail))
    head = ("engine", "precision", "output", "frames", "max drift", "tolerance", "flips")
    return format_table((*head, "self-test"), rows, right=(3, 4, 5, 6))


def explain(manifest: Manifest, reference: DriftReference | None = None) -> str:
    """All that is sealed, for people; `reference` is the bundle's, for drift."""
    identity, evidence = manifest.identity, manifest.evidence
    sections = [
        (
            "Identity",
            f"security counter {identity.security_counter}, made for {identity.target}, needs "
            f"lineside {identity.minimum_runtime}, licence {manifest.licence or 'not stated'}",
        ),
        ("Contract", _tell_contract(manifest.contract)),
        ("Rule", _tell_rule(manifest.rule)),
        ("How the limits were chosen", tell_decision(evidence.decision)),
        ("Guarantee", tell_guarantee(evidence.guarantee)),
        ("Models", _tabulate_models(manifest)),
        ("Agreement with the trainer's float program", _tabulate_agreements(manifest)),
        ("Not checked where it was exported", "\n".join(evidence.unchecked) or "nothing"),
        ("Metrics", _list({name: f"{value:.6g}" for name, value in evidence.metrics.items()})),
        (
            f"Samples (SHA-256 {evidence.samples_sha256})",
            _list({name: str(count) for name, count in evidence.sample_counts.items()}),
        ),
        ("Drift reference", tell_drift(reference)),
        ("Provenance", _list(manifest.provenance)),
        ("Parts", _tabulate_parts(manifest)),
    ]
    return "\n\n".join(f"{title}\n{_indent(body)}" for title, body in sections)


def _tell_contract(contract: Contract) -> str:
    frame, model_input = contract.frame, contract.input
    size = "any size" if frame.size_hw is None else f"{frame.size_hw[0]}x{frame.size_hw[1]} px"
    colour = {1: "gray", 3: "RGB"}[frame.channels]
    window = (
        f", {frame.window[0]}..{frame.window[1]} becomes 0..255" if frame.bit_depth == 16 else ""
    )
    outputs = "; ".join(
        f"{output.name!r}, {_tell_shape(output.shape)}, in {_tell_unit(output.unit)}"
        for output in contract.outputs
    )
    head, memory = contract.head, contract.memory
    lines = [
        f"frame   {size} (height x width), {colour}, {frame.bit_depth} bit{window}",
        f"input   {model_input.name!r}, {model_input.size_hw[0]}x{model_input.size_hw[1]} px, "
        f"{model_input.channels} channel(s), uint8",
        f"output  {outputs}",
        f"head    {_tell_head(head)}",
    ]
    if isinstance(head, AnomalyHead):
        lines.append(f"map     {_tell_map(head)}")
    if memory is not None:
        lines.append(f"memory  {memory.name!r}, patches of {memory.width} numbers, float32")
    return "\n".join(lines)


def _tell_head(head: HeadSpec) -> str:
    target = f": {head.target}" if head.target else ""
    told = f"{type(head).__struct_config__.tag}{target} from {head.output!r}"
    if isinstance(head, LabelledHead):
        told += f"; classes {', '.join(head.classes)}; good {', '.join(head.good)}"
    return told


def _tell_map(head: AnomalyHead) -> str:
    if not head.map:
        return "none: where a part is not OK, no region is named"
    return f"{head.map!r}, regions are named where it is beyond {head.region_limit:g}"


def _tell_rule(rule: LimitRule) -> str:
    good, bad = ("<=", ">") if rule.worse == "higher" else (">=", "<")
    unit = _tell_unit(rule.unit)
    lines = [
        f"score {good} {rule.ok_limit:g}  OK",
        f"score {bad} {rule.not_ok_limit:g}  NOT_OK",
    ]
    if rule.ok_limit != rule.not_ok_limit:
        lines.append("between them  NOT_DECIDABLE: a human looks")
    return "\n".join([*lines, f"limits in {unit}"])


def _tell_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _tell_unit(unit: str) -> str:
    return "plain numbers" if unit == "1" else unit


def _tabulate_models(manifest: Manifest) -> str:
    return format_table(
        ("engine", "precision", "float layers", "batch", "parts"),
        [
            (m.engine, m.precision, m.inference_precision, str(m.batch), ", ".join(m.parts))
            for m in manifest.models
        ],
        right=(3,),
    )


def _tabulate_agreements(manifest: Manifest) -> str:
    return format_table(
        (
            *("engine", "precision", "batch", "threads", "output", "samples"),
            *("max drift", "mean drift", "verdict flips", "at most"),
        ),
        [
            (
                *(a.engine, a.precision, str(a.batch), str(a.threads), a.output, str(a.samples)),
                *(f"{a.max_abs_drift:.3g}", f"{a.mean_abs_drift:.3g}"),
                *(str(a.verdict_flips), f"{100 * a.flip_bound:.2g} %"),
            )
            for a in manifest.evidence.agreements
        ],
        right=(2, 3, 5, 6, 7, 8, 9),
    )


def _tabulate_parts(manifest: Manifest) -> str:
    return format_table(
        ("part", "bytes", "engine", "SHA-256"),
        [
            (part.name, str(part.size_bytes), part.engine or "all", part.sha256[:16] + "…")
            for part in manifest.parts
        ],
        right=(1,),
    )


def _list(values: dict[str, str]) -> str:
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in values.items()) or "none"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
