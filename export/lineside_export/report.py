"""The evidence for people and machines: a table, a JSON document, and the picture beside it."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lineside.bundle import Decision
from lineside.cli.table import format_table
from lineside.contract import LimitRule
from lineside.durable import make_folder, write_durably
from lineside.engines.machine import cpu_name, usable_cores
from lineside.errors import StorageError
from lineside.frame import encode_png
from lineside.verdict import Evaluation
from lineside_export.candidate import Candidate
from lineside_export.costs import Cost
from lineside_export.drawing import encode_figure, new_figure
from lineside_export.formats import FLOAT
from lineside_export.front import draw_front
from lineside_export.parity import Comparison, Measurement, Parity
from lineside_export.search import Tried
from lineside_export.vendors import tool_versions

REPORT_JSON: Final = "parity.json"
REPORT_PNG: Final = "parity.png"
FRONT_PNG: Final = "front.png"
FLIPS: Final = "flips"
# Of one form that turns everything round a hundred frames say as much as all.
_MOST_FLIPS: Final = 100
# Characters of a reason in the table; the report has it whole.
_WIDE: Final = 60


def forms_table(reference: Measurement, tried: Sequence[Tried]) -> str:
    """Drift, flips, metric and fate of every form, one line for each output."""
    metric = reference.judged_by.label
    swept = any(found.cost is not None for found in tried)
    rows = [[reference.label, "", "reference", "", "", _shown(reference.metric), "", ""]]
    for found in tried:
        rows += _form_rows(found)
    head = ["computed by", "output", "max drift", "mean drift", "flips", metric, "size", ""]
    if swept:
        head[-1:-1] = ["p50 ms", "p99 ms", "memory"]
        by_label = {found.label: found.cost for found in tried}
        for row in rows:
            row[-1:-1] = _cost_cells(by_label.get(row[0]))
    table = format_table(head, rows, right=tuple(range(2, len(head) - 1)))
    unknown = _unknown(reference)
    return f"{table}\n\n{unknown}" if unknown else table


def _unknown(reference: Measurement) -> str:
    """Why there is no metric to hold forms by, "" where there is one."""
    judged_by = reference.judged_by
    if reference.metric is not None:
        return ""
    return (
        f"no {judged_by.label}: it needs {judged_by.needs} among the validation samples; forms are "
        "held by drift, flips and noise alone"
    )


def _cost_cells(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["", "", ""]
    return [
        f"{cost.p50_us / 1e3:.2f}",
        f"{cost.p99_us / 1e3:.2f}",
        f"{cost.peak_memory_bytes / 1e6:.0f} MB",
    ]


def _form_rows(tried: Tried) -> list[list[str]]:
    made, found = tried.made, tried.comparison
    if made is None or found is None:
        why = tried.missed[0] if tried.missed else ""
        return [[tried.label, "", "", "", "", "", "", f"cannot be made: {why}"[:_WIDE]]]
    samples, flips = len(found.score_drift), len(found.flipped)
    return [
        [
            tried.label,
            name,
            f"{drift:.3g}",
            f"{found.mean_abs_drift[name]:.3g}",
            f"{flips} of {samples} (< {100 * found.flip_bound:.2g} %)",
            _shown(found.measured.metric),
            f"{made.size_bytes / 1e6:.2f} MB",
            _fate(tried),
        ]
        for name, drift in found.max_abs_drift.items()
    ]


def _fate(tried: Tried) -> str:
    if tried.chosen:
        return "sealed"
    return "misses" if tried.missed else "holds"


def parity_document(
    candidate: Candidate,
    parity: Parity,
    rule: LimitRule,
    tried: Sequence[Tried],
    decision: Decision | None = None,
) -> dict[str, Any]:
    """All figures with what they were made of: machine, versions, data; and how the limits came."""
    reference = parity.reference
    unknown = _unknown(reference)
    return {
        **made_of(candidate),
        "rule": rule,
        **({} if decision is None else {"decision": decision}),
        "reference": {
            "computed_by": reference.label,
            reference.judged_by.name: reference.metric,
            **({"no_metric": unknown} if unknown else {}),
        },
        "forms": [_form_document(candidate, parity, found) for found in tried],
        "ways": [_way_document(found) for found in (*parity.comparisons, *parity.ways)],
    }


def made_of(candidate: Candidate) -> dict[str, Any]:
    """What every document of an export carries: data, machine, versions."""
    return {
        "product": candidate.contract.product,
        "program_sha256": candidate.program_sha256,
        "samples_sha256": candidate.samples_sha256,
        **({"memory_sha256": candidate.memory_sha256} if candidate.memory is not None else {}),
        "samples": {name: len(samples) for name, samples in candidate.samples.items()},
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **tool_versions()},
    }


def origin(candidate: Candidate, samples: str) -> str:
    """The line below every figure of an export.

    Args:
        candidate: whose figure it is.
        samples: which of its samples, e.g. ``80 validation samples``.
    """
    versions = tool_versions()
    return (
        f"{candidate.contract.product}, {samples} ({candidate.samples_sha256[:12]}), {cpu_name()}, "
        f"torch {versions.get('torch')}, onnxruntime {versions.get('onnxruntime')}, openvino "
        f"{versions.get('openvino')}, nncf {versions.get('nncf')}"
    )


def write_report(
    folder: Path,
    candidate: Candidate,
    parity: Parity,
    rule: LimitRule,
    tried: Sequence[Tried],
    decision: Decision | None = None,
) -> None:
    """Write the JSON document, the figure, and every frame whose verdict flips.

    What an earlier export left there under these names goes: it would be taken for this one's.

    Raises:
        StorageError: the folder cannot be written.
    """
    document = parity_document(candidate, parity, rule, tried, decision)
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    picture = _draw(candidate, parity, rule)
    make_folder(folder / FLIPS)
    try:
        for old in (folder / FRONT_PNG, *(folder / FLIPS).glob(_flip_name("*"))):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from error
    write_durably(folder / REPORT_JSON, [encoded, b"\n"])
    write_durably(folder / REPORT_PNG, [picture])
    _write_flips(folder / FLIPS, candidate, parity)
    if any(found.cost is not None for found in tried):
        title = f"{candidate.contract.product}, {cpu_name()}"
        write_durably(folder / FRONT_PNG, [draw_front(tried, parity.reference, title)])


def _form_document(candidate: Candidate, parity: Parity, tried: Tried) -> dict[str, Any]:
    found: dict[str, Any] = {
        "engine": tried.engine,
        "precision": tried.precision,
        "sealed": tried.chosen,
        "missed_gates": list(tried.missed),
        "cost": dataclasses.asdict(tried.cost) if tried.cost is not None else None,
    }
    if tried.made is None or tried.comparison is None:
        return found
    measured = tried.comparison.measured
    return found | {
        "size_bytes": tried.made.size_bytes,
        "kept_float": list(tried.made.kept_float),
        measured.judged_by.name: measured.metric,
        **_drift_document(tried.comparison),
        "flipped": _flipped_document(candidate, parity, tried.comparison),
    }


def _drift_document(found: Comparison) -> dict[str, Any]:
    return {
        "max_abs_drift": found.max_abs_drift,
        "mean_abs_drift": found.mean_abs_drift,
        "verdict_flips": len(found.flipped),
        "samples": len(found.score_drift),
        "flip_bound": found.flip_bound,
    }


def _way_document(found: Comparison) -> dict[str, Any]:
    measured = found.measured
    return {
        "engine": measured.engine,
        "precision": measured.precision,
        "batch": measured.way.batch,
        "threads": measured.way.threads,
        **_drift_document(found),
    }


def _flipped_document(
    candidate: Candidate, parity: Parity, found: Comparison
) -> list[dict[str, Any]]:
    measured, parts = found.measured, candidate.samples["validation"].parts
    drawn = set(_drawn_flips(parity))
    return [
        {
            "validation_sample": index,
            "part": parts[index],
            "frame": f"{FLIPS}/{_flip_name(index)}" if index in drawn else None,
            "reference_score": float(parity.reference.scores[index]),
            "score": float(measured.scores[index]),
            "reference_evaluation": Evaluation(parity.reference.evaluations[index]).name,
            "evaluation": Evaluation(measured.evaluations[index]).name,
        }
        for index in found.flipped
    ]


def _flip_name(index: int | str) -> str:
    return f"validation_{index}.png"


def _write_flips(folder: Path, candidate: Candidate, parity: Parity) -> None:
    """The frames as acquired, once each, whichever forms disagree on them."""
    frames = candidate.samples["validation"].frames_hwc
    for index in _drawn_flips(parity):
        write_durably(folder / _flip_name(index), [encode_png(frames[index])])


def _drawn_flips(parity: Parity) -> list[int]:
    found = (*parity.comparisons, *parity.ways)
    return sorted({index for comparison in found for index in comparison.flipped})[:_MOST_FLIPS]


def _draw(candidate: Candidate, parity: Parity, rule: LimitRule) -> bytes:
    shown = [c for c in parity.comparisons if c.measured.precision != FLOAT] or parity.floats
    figure = new_figure(11, 4.6)
    histogram, scatter = figure.subplots(1, 2)
    unit = rule.unit if rule.unit != "1" else ""
    _draw_histogram(histogram, shown, unit)
    _draw_scatter(scatter, shown, parity, rule, unit)
    samples = f"{len(parity.reference.scores)} validation samples"
    figure.supxlabel(origin(candidate, samples), fontsize=7)
    return encode_figure(figure)


def _draw_histogram(axes: Any, shown: Sequence[Comparison], unit: str) -> None:
    for found in shown:
        axes.hist(
            found.score_drift, bins=40, histtype="step", linewidth=1.4, label=found.measured.label
        )
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set(
        title="Drift of the score",
        xlabel=f"format - float program {unit}".rstrip(),
        ylabel="samples",
    )
    axes.legend()


def _draw_scatter(
    axes: Any, shown: Sequence[Comparison], parity: Parity, rule: LimitRule, unit: str
) -> None:
    scores = parity.reference.scores
    for found in shown:
        axes.scatter(scores, found.measured.scores, s=9, alpha=0.55, label=found.measured.label)
    flips = [(scores[i], found.measured.scores[i]) for found in shown for i in found.flipped]
    if flips:
        across, up = zip(*flips, strict=True)
        axes.scatter(
            across, up, s=70, facecolors="none", edgecolors="crimson", label="verdict flips"
        )
    ends = [float(scores.min()), float(scores.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    for limit in sorted({rule.ok_limit, rule.not_ok_limit}):
        axes.axvline(limit, color="crimson", linewidth=0.8, linestyle="--")
        axes.axhline(limit, color="crimson", linewidth=0.8, linestyle="--")
    axes.set(
        title="Scores, and the limit (dashed)",
        xlabel=f"{parity.reference.label} {unit}".rstrip(),
        ylabel=f"format {unit}".rstrip(),
    )
    axes.legend()


def _shown(metric: float | None) -> str:
    return "-" if metric is None else f"{metric:.4g}"
