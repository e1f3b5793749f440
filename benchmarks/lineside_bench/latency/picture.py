"""What was measured, as one picture: waterfall, first calls, histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lineside_bench.drawing import new_figure
from lineside_bench.latency.models import BUSY, IDLE
from lineside_bench.latency.ways import Way
from lineside_bench.turns import Micros

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS: Final = 3
_BINS: Final = 60
_TICKS_MS: Final = tuple(base * 10.0**power for power in range(-3, 4) for base in (1, 2, 5))
# One after the other; the last two begin at the same moment.
_FALL: Final = (
    *("decode", "digest", "preprocess", "infer", "decide", "around", "hand-over"),
    *("PUBACK", "PLC"),
)
_COLOURS: Final = {
    ("openvino", "int8"): "C0",
    ("openvino", "fp32"): "C9",
    ("onnxruntime", "int8"): "C3",
    ("onnxruntime", "fp32"): "C1",
}


def draw(
    taken: Mapping[tuple[Way, str], Micros],
    warm_up: Mapping[Way, Micros],
    journey: Mapping[str, Any],
) -> Figure:
    """All of it.

    Args:
        taken: durations by way, idle or busy.
        warm_up: the first calls.
        journey: with a row a stage.
    """
    models = list(dict.fromkeys(way.model for way, _ in taken))
    below = -(-len(models) // _COLUMNS)
    figure = new_figure(15, 4.2 + 3.4 * below)
    grid = figure.add_gridspec(1 + below, _COLUMNS)
    _waterfall(figure.add_subplot(grid[0, :2]), journey)
    _first_calls(figure.add_subplot(grid[0, 2]), warm_up)
    for place, model in enumerate(models):
        axis = figure.add_subplot(grid[1 + place // _COLUMNS, place % _COLUMNS])
        _histograms(axis, model, taken)
    return figure


def _waterfall(axis: Axes, journey: Mapping[str, Any]) -> None:
    rows: Sequence[Mapping[str, Any]] = journey["stages"]
    by_place = {(row["beside"], row["stage"]): row["p50_us"] / 1e3 for row in rows}
    names = [name for name in _FALL if (IDLE, name) in by_place]
    besides = [beside for beside in (IDLE, BUSY) if (beside, names[0]) in by_place]
    for shift, beside in enumerate(besides):
        _fall(axis, [(name, by_place[beside, name]) for name in names], shift, beside)
    axis.set_yticks([place + 0.2 for place in range(len(names))], names)
    axis.invert_yaxis()
    axis.set_xlabel("from the picture's bytes [ms], medians")
    axis.set_title(f"Picture to PLC: {journey['model']}, {journey['engine']}", fontsize=10)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="lower left")


def _fall(axis: Axes, stages: Sequence[tuple[str, float]], shift: int, beside: str) -> None:
    start_ms = end_ms = 0.0
    colour = f"C{3 * shift}"
    for place, (name, took_ms) in enumerate(stages):
        y = place + 0.4 * shift
        hatch = "///" if name == "PUBACK" else None
        axis.barh(y, took_ms, left=start_ms, height=0.38, color=colour, hatch=hatch, alpha=0.8)
        axis.text(start_ms + took_ms, y, f" {took_ms:.3g}", va="center", fontsize=8)
        end_ms = max(end_ms, start_ms + took_ms)
        start_ms += 0.0 if name == "PUBACK" else took_ms
    axis.barh(0, 0, color=colour, label=f"{beside}: {start_ms:.1f} ms")
    axis.set_xlim(0, max(axis.get_xlim()[1], end_ms * 1.1))


def _first_calls(axis: Axes, warm_up: Mapping[Way, Micros]) -> None:
    for way, first in warm_up.items():
        if way.runtime == "lineside" and way.batch == 1 and way.threads == 1:
            shares = first / np.median(first[len(first) // 2 :])
            colour = _COLOURS.get((way.engine, way.form), "C7")
            axis.plot(range(1, len(first) + 1), shares, color=colour, alpha=0.6)
    axis.set(xlabel="call", ylabel="over the median of the later half", yscale="log")
    axis.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axis.yaxis.set_minor_formatter("")
    axis.set_title("First calls of each model, idle, one thread", fontsize=10)
    axis.grid(alpha=0.3)


def _histograms(axis: Axes, model: str, taken: Mapping[tuple[Way, str], Micros]) -> None:
    shown = {
        (way, beside): values / 1e3
        for (way, beside), values in taken.items()
        if way.model == model
        and way.runtime == "lineside"
        and way.batch == 1
        and way.threads == 1
        and beside in (IDLE, BUSY)
    }
    everything = np.concatenate(list(shown.values()))
    low_ms, high_ms = np.percentile(everything, (0, 99.5))
    # Of a few rounds fine bins would be single calls.
    count = min(_BINS, 8 + max(map(len, shown.values())) // 4)
    bins = np.geomspace(max(low_ms, 1e-4), high_ms, count)
    for (way, beside), values in shown.items():
        axis.hist(
            np.minimum(values, high_ms),
            bins=bins.tolist(),
            histtype="stepfilled" if beside == IDLE else "step",
            alpha=0.55 if beside == IDLE else 1.0,
            linestyle="-" if beside == IDLE else "--",
            color=_COLOURS.get((way.engine, way.form), "C7"),
            weights=np.full(len(values), 1 / len(values)),
            label=f"{way.engine} {way.form}" if beside == IDLE else None,
        )
    axis.set(xscale="log", xlabel="one inspection [ms]; dashed: busy cores beside")
    ticks = [value for value in _TICKS_MS if low_ms <= value <= high_ms]
    axis.set_xticks(ticks, [f"{value:g}" for value in ticks])
    axis.xaxis.set_minor_formatter("")
    axis.set_ylabel("share")
    axis.set_title(f"{model}, one thread", fontsize=10)
    axis.legend(fontsize=7)
