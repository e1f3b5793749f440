"""Latency above memory, a panel a kind of size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lineside_bench.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(found: dict[str, Any]) -> Figure:
    """Of the document that is recorded."""
    axes = [axis for axis, rows in found["rows"].items() if rows]
    figure = new_figure(4.2 * len(axes), 7)
    panels = figure.subplots(2, len(axes), squeeze=False, gridspec_kw={"height_ratios": (3, 2)})
    for column, axis in enumerate(axes):
        latency, memory = panels[0][column], panels[1][column]
        rows, fits = found["rows"][axis], found["fits"][axis]
        _draw_series(latency, rows, fits, "p50_us", 1e3)
        _draw_series(memory, rows, fits, "memory_mib", 1.0)
        latency.set(xscale="log", yscale="log", title=found["axes"][axis])
        latency.legend(fontsize=7)
        memory.set(xscale="log", xlabel=found["axes"][axis])
        most_mib = max((row["memory_mib"] or 0.0 for row in rows), default=0.0)
        memory.set_ylim(0, 1.15 * most_mib or 1.0)
        for panel in (latency, memory):
            sizes = sorted({row["size"] for row in rows})
            panel.set_xticks(sizes, [f"{size:g}" for size in sizes], fontsize=8)
            panel.minorticks_off()
            panel.grid(alpha=0.3)
        _label_powers(latency)
    panels[0][0].set_ylabel("p50 [ms]; all regions, or one verdict")
    panels[1][0].set_ylabel("memory of the process (of the broker) [MiB]")
    return figure


def _label_powers(panel: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_series(
    panel: Axes, rows: Sequence[dict[str, Any]], fits: dict[str, Any], key: str, scale: float
) -> None:
    for place, series in enumerate(fits):
        known = [row for row in rows if row["series"] == series and row[key] is not None]
        if not known:
            continue
        fit = fits[series]["latency"]
        label = series if fit is None else f"{series}: power {fit['exponent']:.2f}"
        sizes = [row["size"] for row in known]
        panel.plot(
            sizes,
            [row[key] / scale for row in known],
            marker="o",
            markersize=4,
            color=f"C{place}",
            label=label,
        )
