"""Which forms no other beats in both latency and accuracy, and the picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lineside_export.drawing import encode_figure, new_figure
from lineside_export.parity import Measurement
from lineside_export.search import Tried


def loss_of(tried: Tried) -> float:
    """How bad a form is, lower being better: the task's metric, else its drift."""
    assert tried.comparison is not None, "only forms that were measured"
    measured = tried.comparison.measured
    if measured.metric is None:
        return max(tried.comparison.mean_abs_drift.values())
    return measured.metric if measured.judged_by.lower_is_better else 1.0 - measured.metric


def find_front(tried: Sequence[Tried]) -> list[Tried]:
    """Forms with a cost that none beats in both latency and loss, the fastest first."""
    known = [found for found in tried if found.cost is not None and found.comparison is not None]
    return sorted(
        (
            found
            for found in known
            if not any(_beats(other, found) for other in known if other is not found)
        ),
        key=_latency_us,
    )


def draw_front(tried: Sequence[Tried], reference: Measurement, title: str) -> bytes:
    """Loss over latency as PNG: the front as a line, size as the dot, what is sealed ringed."""
    figure = new_figure(9, 5.5)
    axes = figure.subplots()
    colours = {"onnxruntime": "C0", "openvino": "C1"}
    for found in tried:
        if found.cost is not None and found.made is not None:
            _draw_form(axes, found, colours[found.engine])
    front = find_front(tried)
    axes.plot(
        [_latency_us(found) / 1e3 for found in front],
        [loss_of(found) for found in front],
        color="0.6",
        zorder=0,
        label="front",
    )
    for engine, colour in colours.items():
        axes.scatter([], [], color=colour, label=engine)
    axes.scatter([], [], facecolors="none", edgecolors="crimson", s=120, label="sealed")
    axes.scatter([], [], marker="x", color="0.3", label="misses a gate")
    axes.set(
        title=title,
        xlabel="one inference, p50 [ms], one thread (dot: size of the files)",
        ylabel=_loss_label(reference),
    )
    axes.legend(fontsize=8)
    return encode_figure(figure)


def _draw_form(axes: Any, found: Tried, colour: str) -> None:
    x, y = _latency_us(found) / 1e3, loss_of(found)
    size_mb = found.made.size_bytes / 1e6 if found.made is not None else 1.0
    if found.missed:
        axes.scatter([x], [y], marker="x", s=40, color=colour)
    else:
        axes.scatter([x], [y], s=12 * size_mb, color=colour, alpha=0.6)
    if found.chosen:
        axes.scatter([x], [y], s=400, facecolors="none", edgecolors="crimson")
    axes.annotate(found.precision, (x, y), textcoords="offset points", xytext=(5, 5), fontsize=7)


def _loss_label(reference: Measurement) -> str:
    metric = reference.judged_by
    if reference.metric is None:
        return "mean drift from the float program"
    return (
        f"validation {metric.label}" if metric.lower_is_better else f"1 - validation {metric.label}"
    )


def _latency_us(found: Tried) -> float:
    assert found.cost is not None, "only forms with a cost"
    return found.cost.p50_us


def _beats(one: Tried, other: Tried) -> bool:
    pairs = ((_latency_us(one), _latency_us(other)), (loss_of(one), loss_of(other)))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
