"""The table and the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lineside_bench.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS: Final = "#1b6ca8"
_THEIRS: Final = "#b0b7bf"
_OTHER_NETWORK: Final = "#e6c9a8"


def show(found: Mapping[str, Any]) -> str:
    """Everything for people."""
    rows = found["rows"]
    lines = [
        _line("way", "threads", ("p50 ms", "p90", "p99"), "eager ÷ this (95 %)"),
        *(_timed(row) for row in _sorted(rows)),
        "",
        "From the start of the process to the first value, and what it takes up:",
        _cost_line(
            "peer", "import s", "load s", "first call s", "start s", "RSS MB", "dists", "MB"
        ),
        *_costs(rows, found["threads"]),
        "",
        "Largest difference from torch eager, over its largest value:",
        *(
            f"  {one['name']:46} {one['largest_difference_share']:8.1e}  within "
            f"{one['tolerance_share']:.0e}: {'yes' if one['same'] else 'NO'}"
            for one in found["values"]
        ),
        "",
        "Not measured, and why:",
        *_reasons(found["left_out"]),
        "",
        *(_target(one) for one in found["targets"]),
    ]
    return "\n".join(lines)


def _sorted(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Who computes the ViT-Ti first, then by duration."""
    return sorted(rows, key=lambda row: (row["network"] != "ViT-Ti", row["latency"]["p50_us"]))


def label(row: Mapping[str, Any]) -> str:
    """A row in words: whose, how, which weights, and whose network where it is another."""
    way = "" if row["way"] == "call" else f" {row['way']}"
    other = "" if row["network"] == "ViT-Ti" else f" [{row['network']}]"
    return f"{row['peer']}{way} {row['form']}{other}"


def _timed(row: Mapping[str, Any]) -> str:
    faster = row["eager_over_this"]
    same = row["network"] == "ViT-Ti" and faster is not None
    told = f"{faster['p50']:.2f} ({faster['low']:.2f} to {faster['high']:.2f})" if same else "–"
    spread = row["latency"]
    times = (f"{spread[name] / 1e3:.2f}" for name in ("p50_us", "p90_us", "p99_us"))
    return _line(label(row), str(row["threads"] or "own"), (*times,), told)


def _line(name: str, threads: str, times: Iterable[str], faster: str) -> str:
    middle = " ".join(f"{word:>8}" for word in times)
    return f"{name:56} {threads:>7} {middle}  {faster}"


def _costs(rows: Iterable[Mapping[str, Any]], threads: int) -> list[str]:
    """A line a process, of those with the same number of threads."""
    lines: dict[str, str] = {}
    for row in rows:
        if row["threads"] != threads:
            continue
        start = row["start"]
        name = f"{row['peer']} {row['form']}"
        size = row["installed_bytes"]
        lines[name] = _cost_line(
            name,
            *(
                f"{start[part] / 1e3:.2f}"
                for part in ("import_ms", "load_ms", "first_ms", "whole_ms")
            ),
            f"{row['resident_bytes'] / 1e6:.0f}",
            str(row["distributions"] or "–"),
            "–" if size is None else f"{size / 1e6:.0f}",
        )
        lines[name] += f"  {row['told']}"
    return list(lines.values())


def _cost_line(name: str, *words: str) -> str:
    return f"{name:36} " + " ".join(f"{word:>12}" for word in words)


def _reasons(left_out: Mapping[str, str]) -> list[str]:
    """Those with the same reason together."""
    told: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        told.setdefault(reason, []).append(name)
    return [f"  {'; '.join(names)}: {reason}" for reason, names in told.items()]


def _target(one: Mapping[str, Any]) -> str:
    faster = one["found"]
    met = "met" if one["met"] else "missed"
    return (
        f"{one['what']}: {faster['p50']:.2f} ({faster['low']:.2f} to {faster['high']:.2f}), "
        f"target at least {one['at_least']:g}: {met}"
    )


def draw(found: Mapping[str, Any]) -> Figure:
    """A bar a way, p50 with a whisker up to p99; the same threads for all."""
    rows = [row for row in _sorted(found["rows"]) if row["threads"] == found["threads"]]
    rows.reverse()
    figure = new_figure(9, 1.2 + 0.34 * len(rows))
    axes = figure.subplots()
    p50_ms = [row["latency"]["p50_us"] / 1e3 for row in rows]
    p99_ms = [row["latency"]["p99_us"] / 1e3 for row in rows]
    above_ms = [high - middle for middle, high in zip(p50_ms, p99_ms, strict=True)]
    axes.barh(
        [label(row) for row in rows],
        p50_ms,
        xerr=[[0.0] * len(rows), above_ms],
        color=[_colour(row) for row in rows],
        error_kw={"ecolor": "#555", "capsize": 3, "lw": 1},
    )
    axes.set_xlim(0, max(p50_ms, default=1.0) * 1.6)
    for place, (middle, high) in enumerate(zip(p50_ms, p99_ms, strict=True)):
        told = f"{middle:.2f}, p99 {high:.1f}"
        axes.text(1.01, place, told, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.set_xlabel("ms from frame to value, p50; whisker to p99")
    axes.set_title(
        f"ViT-Ti 64x64, {found['threads']} threads; [another network] where it cannot be loaded",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _colour(row: Mapping[str, Any]) -> str:
    if row["peer"].startswith("Lineside"):
        return _OURS
    return _THEIRS if row["network"] == "ViT-Ti" else _OTHER_NETWORK
