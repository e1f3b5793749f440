"""The footprint in a table and a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lineside.cli.table import format_table
from lineside_bench.drawing import new_figure
from lineside_bench.footprint.starts import MEMORY_TARGET_MB, START_TARGET_S
from lineside_bench.footprint.ways import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = list[dict[str, Any]]

_STAGES: Final = {
    "interpreter": "#bbbbbb",
    "import": "#4477aa",
    "load": "#ee6677",
    "verdict": "#228833",
}
_SIDE_COLOURS: Final = {"bare": "#bbbbbb", "lineside": "#4477aa"}


def tell(found: dict[str, Any]) -> str:
    """For people: what was measured, each part a table or a line."""
    return "\n\n".join(_PARTS[name](part) for name, part in found.items())


def _met(row: dict[str, Any], target: str) -> str:
    return "met" if row[target] else "MISSED"


def _mb(count_bytes: float) -> str:
    return f"{count_bytes / 1e6:.1f}"


def _sizes(sizes: dict[str, Any]) -> str:
    rows = [
        [
            row["installation"],
            str(row["distributions"]),
            _mb(row["installed_bytes"]),
            _mb(row["of_lineside_bytes"]),
            ", ".join(f"{name} {_mb(size)}" for name, size in row["largest"].items()),
        ]
        for row in sizes["installations"]
    ]
    wheel = sizes["wheel"]
    told = wheel["absent"] or f"{wheel['packed_bytes'] / 1e6:.2f} MB"
    head = ["installed", "distributions", "MB", "of them lineside", "largest, MB"]
    return format_table(head, rows, right=(1, 2, 3)) + f"\nLineside's wheel: {told}"


def _imports(rows_found: Rows) -> str:
    rows = [
        [
            row["import"],
            f"{row['import_s']:.3f}",
            f"{row['cpu_s']:.3f}",
            f"{row['resident_mb']:.1f}",
        ]
        for row in rows_found
    ]
    return format_table(["import", "s", "CPU s", "MB"], rows, right=(1, 2, 3))


def _name(row: dict[str, Any]) -> list[str]:
    return [row["model"], row["form"], row["engine"]]


def _starts(found: Rows) -> str:
    return f"{_times(found)}\n\n{_memory(found)}"


def _times(found: Rows) -> str:
    rows = [
        [
            *_name(row),
            row["start"],
            *(f"{row[f'{side}_until_verdict_s']:.2f}" for side in SIDES),
            f"{row['extra_s']:+.2f} ({row['extra_s_interval'][0]:+.2f} to "
            f"{row['extra_s_interval'][1]:+.2f})",
            f"{row['extra_cpu_s']:+.2f}",
            _met(row, "start_target_met"),
        ]
        for row in found
    ]
    head = ["model", "form", "engine", "start", "bare s", "lineside s", "more s (95 %)"]
    head += ["more CPU s", f"target {START_TARGET_S:+g} s"]
    return format_table(head, rows, right=(4, 5, 6, 7))


def _memory(found: Rows) -> str:
    rows = [
        [
            *_name(row),
            row["start"],
            *(f"{row[f'{side}_resident_mb']:.0f}" for side in SIDES),
            f"{row['extra_mb']:+.0f}",
            *(f"{row[f'{side}_share_mb']:.0f}" for side in SIDES),
            *(f"{row[f'{side}_peak_mb']:.0f}" for side in SIDES),
            _met(row, "memory_target_met"),
        ]
        for row in found
    ]
    head = ["model", "form", "engine", "start", "bare MB", "lineside MB", "more MB"]
    head += ["bare PSS", "lineside PSS", "bare peak", "lineside peak"]
    head += [f"target {MEMORY_TARGET_MB:+g} MB"]
    return format_table(head, rows, right=tuple(range(4, 11)))


def _choosing(found: dict[str, Any]) -> str:
    first_s, later_s = (found[f"{name}_until_verdict_s"] for name in ("choosing", "remembered"))
    first_mb, later_mb = (found[f"{name}_peak_mb"] for name in ("choosing", "remembered"))
    return (
        f"{found['model']} {found['form']} with engine auto: the very first start tries all that "
        f"the bundle holds, {first_s:.2f} s and at most {first_mb:.0f} MB;\n"
        f"later ones take what was best, {later_s:.2f} s and {later_mb:.0f} MB"
    )


def _station(found: dict[str, Any]) -> str:
    told = "lineside run, process start to the first verdict heard over MQTT: "
    if found["absent"]:
        return f"{told}{found['absent']}"
    return told + f"{found['until_heard_s']:.2f} s, {found['resident_mb']:.0f} MB"


def _growth(found: Rows) -> str:
    rows = [
        [
            *_name(row),
            row["side"],
            f"{row['frames']:,}",
            f"{row['at_first_mb']:.0f}",
            f"{row['after_mb']:.0f}",
            f"{row['growth_bytes_a_frame']:+.2f}",
            "yes" if row["grows"] else "no",
            f"{row['extra_mb']:+.0f}: {_met(row, 'memory_target_met')}"
            if "extra_mb" in row
            else "",
        ]
        for row in found
    ]
    head = ["model", "form", "engine", "side", "frames", "first MB", "after MB", "bytes a frame"]
    head += ["grows", f"target {MEMORY_TARGET_MB:+g} MB"]
    return format_table(head, rows, right=(4, 5, 6, 7))


_PARTS: Final[dict[str, Callable[[Any], str]]] = {
    "sizes": _sizes,
    "imports": _imports,
    "starts": _starts,
    "choosing": _choosing,
    "station": _station,
    "growth": _growth,
}


def draw(found: dict[str, Any]) -> Figure | None:
    """Starts by stage, memory, and memory over frames; None where one of them was not measured."""
    if "starts" not in found or "growth" not in found:
        return None
    figure = new_figure(12, 3.2 + 0.55 * len(found["starts"]))
    starts, memory, growth = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    _draw_starts(starts, found["starts"])
    _draw_memory(memory, found["starts"])
    _draw_growth(growth, found["growth"])
    return figure


def _labels(rows: Rows) -> list[str]:
    return [
        f"{row['model']} {row['form']}\n{row['engine']}"
        + (", cached" if row["start"] == "cached" else "")
        for row in rows
    ]


def _places(rows: Rows, side: str) -> list[float]:
    shift = -0.2 if side == "bare" else 0.2
    return [position + shift for position in range(len(rows))]


def _draw_starts(axes: Axes, rows: Rows) -> None:
    for side in SIDES:
        begun = [0.0] * len(rows)
        for stage, colour in _STAGES.items():
            widths = [row["stages_s"][side].get(stage, 0.0) for row in rows]
            label = stage if side == "bare" else None
            places = _places(rows, side)
            axes.barh(places, widths, 0.36, left=begun, color=colour, label=label)
            begun = [left + width for left, width in zip(begun, widths, strict=True)]
        for place, end in zip(_places(rows, side), begun, strict=True):
            axes.text(end, place, f" {side}", va="center", fontsize=8)
    limits = [row["bare_until_verdict_s"] + START_TARGET_S for row in rows]
    axes.plot(limits, _places(rows, "lineside"), "k|", markersize=14, label="bare + 0.4 s")
    axes.set_yticks(range(len(rows)), _labels(rows))
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlabel("seconds from process start to first verdict")
    _put_legend(axes)


def _draw_memory(axes: Axes, rows: Rows) -> None:
    for side in SIDES:
        held = [row[f"{side}_resident_mb"] for row in rows]
        axes.barh(_places(rows, side), held, 0.36, color=_SIDE_COLOURS[side], label=side)
    limits = [row["bare_resident_mb"] + MEMORY_TARGET_MB for row in rows]
    axes.plot(limits, _places(rows, "lineside"), "k|", markersize=14, label="bare + 40 MB")
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    axes.invert_yaxis()
    axes.set_xlabel("MB resident after the first verdict")
    _put_legend(axes)


def _draw_growth(axes: Axes, rows: Rows) -> None:
    for row in rows:
        frames, kib = zip(*row["samples"], strict=True)
        style = "--" if row["side"] == "bare" else "-"
        held_mb = [held * 1024 / 1e6 for held in kib]
        axes.plot(frames, held_mb, style, label=f"{row['engine']}, {row['side']}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"frames through {rows[0]['model']} {rows[0]['form']}")
    axes.set_ylabel("MB resident")
    _put_legend(axes)


def _put_legend(axes: Axes) -> None:
    """Above the plot, where no bar can lie under it."""
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
