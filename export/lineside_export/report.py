"""The evidence for people and machines: a table, a JSON document, and the picture beside it."""

from __future__ import annotations

import io
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lineside.cli.table import format_table
from lineside.contract import LimitRule
from lineside.durable import write_durably
from lineside.engines.machine import cpu_name, usable_cores
from lineside.errors import StorageError
from lineside.verdict import Evaluation
from lineside_export.candidate import Candidate
from lineside_export.formats import FLOAT, Format
from lineside_export.parity import Comparison, Parity
from lineside_export.vendors import tool_versions

REPORT_JSON: Final = "parity.json"
REPORT_PNG: Final = "parity.png"


def parity_table(parity: Parity, formats: Sequence[Format]) -> str:
    """Drift, flips and metric of every format, one line for each output."""
    sizes: dict[tuple[str, str], int] = {
        (f.entry.engine, f.entry.precision): f.size_bytes for f in formats
    }
    reference, metric = parity.reference, parity.reference.judged_by.label
    rows = [[reference.label, "", "reference", "", "", _shown(reference.metric), ""]]
    for found in parity.comparisons:
        measured = found.measured
        size_bytes = sizes[(measured.engine, measured.precision)]
        rows += [
            [
                measured.label,
                name,
                f"{drift:.3g}",
                f"{found.mean_abs_drift[name]:.3g}",
                f"{len(found.flipped)} of {len(found.score_drift)}",
                _shown(measured.metric),
                f"{size_bytes / 1e6:.2f} MB",
            ]
            for name, drift in found.max_abs_drift.items()
        ]
    head = ["computed by", "output", "max drift", "mean drift", "flips", metric, "size"]
    return format_table(head, rows, right=(2, 3, 4, 5, 6))


def parity_document(
    candidate: Candidate, parity: Parity, rule: LimitRule, missed: Sequence[str]
) -> dict[str, Any]:
    """All figures with what they were made of: machine, versions, data."""
    reference = parity.reference
    return {
        **made_of(candidate),
        "rule": rule,
        "reference": {
            "computed_by": reference.label,
            reference.judged_by.name: reference.metric,
        },
        "formats": [_format_document(candidate, parity, found) for found in parity.comparisons],
        "missed_gates": list(missed),
    }


def made_of(candidate: Candidate) -> dict[str, Any]:
    """What every document of an export carries: data, machine, versions."""
    return {
        "product": candidate.contract.product,
        "program_sha256": candidate.program_sha256,
        "samples_sha256": candidate.samples_sha256,
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
    folder: Path, candidate: Candidate, parity: Parity, rule: LimitRule, missed: Sequence[str]
) -> None:
    """Write the JSON document and the figure.

    Raises:
        StorageError: the folder cannot be written.
    """
    document = parity_document(candidate, parity, rule, missed)
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    picture = _draw(candidate, parity, rule)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}") from error
    write_durably(folder / REPORT_JSON, [encoded, b"\n"])
    write_durably(folder / REPORT_PNG, [picture])


def _format_document(candidate: Candidate, parity: Parity, found: Comparison) -> dict[str, Any]:
    measured, parts = found.measured, candidate.samples["validation"].parts
    return {
        "engine": measured.engine,
        "precision": measured.precision,
        "max_abs_drift": found.max_abs_drift,
        "mean_abs_drift": found.mean_abs_drift,
        measured.judged_by.name: measured.metric,
        "verdict_flips": len(found.flipped),
        "flipped": [
            {
                "validation_sample": index,
                "part": parts[index],
                "reference_score": float(parity.reference.scores[index]),
                "score": float(measured.scores[index]),
                "reference_evaluation": Evaluation(parity.reference.evaluations[index]).name,
                "evaluation": Evaluation(measured.evaluations[index]).name,
            }
            for index in found.flipped
        ],
    }


def _draw(candidate: Candidate, parity: Parity, rule: LimitRule) -> bytes:
    # Not pyplot: it would pick a backend for a screen, and keep every figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [c for c in parity.comparisons if c.measured.precision != FLOAT] or parity.floats
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    histogram, scatter = figure.subplots(1, 2)
    unit = rule.unit if rule.unit != "1" else ""
    _draw_histogram(histogram, shown, unit)
    _draw_scatter(scatter, shown, parity, rule, unit)
    samples = f"{len(parity.reference.scores)} validation samples"
    figure.supxlabel(origin(candidate, samples), fontsize=7)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()


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
