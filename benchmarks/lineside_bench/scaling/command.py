"""`lineside measure scaling`: latency and memory as image, patches, regions, memory and stations
grow, and by which power."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from lineside.cli.options import json_option
from lineside.cli.table import format_table
from lineside.errors import InputDataError
from lineside_bench.options import out_option, quick_option, suite_argument
from lineside_bench.record import circumstances, publish
from lineside_bench.scaling.axes import list_points
from lineside_bench.scaling.fit import fit_exponent, tell_fit
from lineside_bench.scaling.held import measure_held
from lineside_bench.scaling.picture import draw
from lineside_bench.scaling.points import Opened, Point
from lineside_bench.scaling.stations import STATIONS, measure_stations
from lineside_bench.suite import read_suite
from lineside_bench.turns import spread, take_turns

UNITS: Final = {
    "frame": "side of the frame that comes in [px]",
    "patches": "patches of a ViT's input",
    "regions": "regions of a frame",
    "memory": "patches in the memory",
    "stations": "stations on one broker",
}
# A round of 64 regions takes as long as 64 of one frame.
_ROUNDS: Final = {"frame": 60, "patches": 40, "regions": 11, "memory": 40}
_QUICK_ROUNDS: Final = 5
_WARM_UP: Final = 3
_ABSENT: Final = "the suite has no model for it: make it again with `lineside measure bundles`"


@click.command()
@suite_argument
@quick_option
@out_option
@json_option
def scaling(suite: Path, quick: bool, out: Path | None, as_json: bool) -> None:
    """Measure how latency and memory grow: with the frame's side, with patches, regions, patches in
    a memory, and stations on one broker.

    For each the exponent: 1 is twice as long for twice as much, 2 four times. Sizes of one kind
    take turns; memory is that of a fresh process. About four minutes.

    Example: lineside measure scaling suite --out results
    """
    opened = read_suite(suite)
    rows: dict[str, list[dict[str, Any]]] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="lineside-scaling-") as made:
        for axis, points in list_points(opened, Path(made), quick=quick).items():
            click.echo(f"{axis}: {len(points)} points", err=True)
            rows[axis] = measure_points(points, quick=quick)
            if not points:
                left_out[axis] = _ABSENT
    click.echo("stations", err=True)
    try:
        rows["stations"] = _stations(quick=quick)
    except InputDataError as error:
        left_out["stations"] = str(error)
    found = document(rows, left_out)
    publish("scaling", found, tell(found), draw(found), out=out, as_json=as_json)


def document(rows: dict[str, list[dict[str, Any]]], left_out: Mapping[str, str]) -> dict[str, Any]:
    """What is recorded.

    Args:
        rows: by axis.
        left_out: by axis, why it has none.
    """
    return {
        **circumstances("latency [us] and memory [MiB] by size"),
        "axes": {axis: UNITS[axis] for axis in rows},
        "rows": rows,
        "fits": {axis: fit_series(of_axis) for axis, of_axis in rows.items()},
        "left_out": dict(left_out),
    }


def measure_points(points: Sequence[Point], *, quick: bool) -> list[dict[str, Any]]:
    """A row a point; all of them take turns.

    Args:
        points: of one axis.
        quick: fewer rounds, and the memory of each series' ends only.
    """
    if not points:
        return []
    rounds = _QUICK_ROUNDS if quick else _ROUNDS[points[0].axis]
    with Opened() as opened:
        ways = {point.name: opened.way(point) for point in points}
        taken, _ = take_turns(ways, rounds=rounds, warm_up=_WARM_UP)
    ends = {point.name for point in points if _is_end(point, points)}
    rows = []
    for point in points:
        times = spread(taken[point.name])
        weighed = not point.prepares_only and (not quick or point.name in ends)
        rows.append(
            {
                "series": point.series,
                "size": point.size,
                "p50_us": times.p50_us,
                # Of so few rounds p99 would be the longest.
                "p90_us": times.p90_us,
                "rounds": times.rounds,
                "memory_mib": measure_held(point) if weighed else None,
            }
        )
    return rows


def _is_end(point: Point, points: Sequence[Point]) -> bool:
    sizes = [one.size for one in points if one.series == point.series]
    return point.size in (min(sizes), max(sizes))


def _stations(*, quick: bool) -> list[dict[str, Any]]:
    counts, parts, rate_hz = ((1, 4, 8), 8, 10.0) if quick else (STATIONS, 30, 5.0)
    rows = measure_stations(counts, parts=parts, rate_hz=rate_hz)
    return [{"series": f"{rate_hz:g} verdicts/s each", **row} for row in rows]


def fit_series(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By series: the exponents of latency and memory; ``None`` where too little was measured."""
    return {
        series: {
            name: _fit([(row["size"], row[key]) for row in rows if row["series"] == series])
            for name, key in (("latency", "p50_us"), ("memory", "memory_mib"))
        }
        for series in dict.fromkeys(row["series"] for row in rows)
    }


def _fit(pairs: Sequence[tuple[float, float | None]]) -> dict[str, Any] | None:
    known = [(size, value) for size, value in pairs if value]
    if len({size for size, _ in known}) < 2:
        return None
    return fit_exponent([size for size, _ in known], [value for _, value in known])


def tell(found: dict[str, Any]) -> str:
    """For people: a table an axis, and the exponents."""
    lines = []
    for axis, rows in found["rows"].items():
        if rows:
            lines += [f"{found['axes'][axis]}:", _table(rows), ""]
    lines += ["exponents (95 % interval; between the two largest sizes):", _exponents(found)]
    lines += [f"left out: {axis}: {why}" for axis, why in found["left_out"].items()]
    return "\n".join(lines)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """A row a series, a column a size."""
    sizes = sorted({row["size"] for row in rows})
    head = ("series", "", *(f"{size:g}" for size in sizes))
    told = [line for series in _series(rows) for line in _series_lines(rows, series, sizes)]
    return format_table(head, told, right=tuple(range(2, len(head))))


def _series_lines(
    rows: Sequence[dict[str, Any]], series: str, sizes: Sequence[float]
) -> Iterator[tuple[str, ...]]:
    by_size = {row["size"]: row for row in rows if row["series"] == series}

    def line(key: str, scale: float, form: str) -> list[str]:
        cells = [by_size.get(size, {}).get(key) for size in sizes]
        return ["" if cell is None else format(cell / scale, form) for cell in cells]

    yield (series, "p50 ms", *line("p50_us", 1e3, ".3f"))
    yield ("", "p90 ms", *line("p90_us", 1e3, ".3f"))
    if any(row["memory_mib"] is not None for row in by_size.values()):
        yield ("", "MiB", *line("memory_mib", 1, ".1f"))


def _series(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["series"] for row in rows))


def _exponents(found: dict[str, Any]) -> str:
    told = [
        (
            *(axis, series, tell_fit(fits["latency"])),
            "" if fits["latency"] is None else f"{fits['latency']['large_end']:.2f}",
            tell_fit(fits["memory"]),
            "" if fits["memory"] is None else f"{fits['memory']['large_end']:.2f}",
        )
        for axis, by_series in found["fits"].items()
        for series, fits in by_series.items()
    ]
    head = ("with", "series", "latency", "large end", "memory", "large end")
    return format_table(head, told, right=(3, 5))
