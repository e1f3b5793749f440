"""What became slower beyond noise between two recorded results, by ratio.

Nothing is known of a measurement but its document: figures are found by the units in their names
(`…_us`, `…_bytes`, `…_per_s`), and rows by what is written beside them. Two runs differ by the
machine's mood as well: the drift all figures share is taken out (that of the bare engines where
there are any, since nobody here changes those), and what scatters is noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option
from lineside.cli.table import format_table
from lineside.errors import InputDataError
from lineside.plainfile import read_whole

# Ending of a field's name: whether less of it is better.
_UNITS: Final = {
    **dict.fromkeys(("_us", "_ms", "_s", "_bytes", "_kib", "_mib", "_mb"), True),
    **dict.fromkeys(("_per_s", "_per_second"), False),
}
_TAILS: Final = ("p99", "max", "jitter", "_high", "_low")
_HEAD: Final = frozenset({"command", "date", "load_average", "versions", "machine", "cpu_flags"})
_OURS: Final = "inspect_"
_LIMIT_BYTES: Final = 2**26
_FEW: Final = 8
_FLOOR: Final = 1.10
"""A ratio below it is nothing to act on, however quiet the machine."""

_FLOOR_OF_FEW: Final = 1.25
_SPREADS: Final = 3.0

Figures = dict[str, tuple[float, bool]]
"""By name: the value, and whether less is better."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure in both results; above 1 is worse, whatever its unit."""

    name: str
    before: float
    after: float
    worse_by: float
    beside_drift: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What differs.

    Attributes:
        drift: what all figures (or the bare engines') share, as a ratio; above 1 is worse.
        drift_of_bare: it is that of the bare engines.
        beyond: a change counts when it is beyond this ratio, or its inverse.
        worse, better: changes beyond noise, the largest first.
        figures: compared.
        missing, new: figures of one result only.
        machines: of both, where they are not the same.
    """

    drift: float
    drift_of_bare: bool
    beyond: float
    worse: list[Change]
    better: list[Change]
    figures: int
    missing: list[str]
    new: list[str]
    machines: list[str]


@click.command()
@click.argument("before", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("after", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--tails", is_flag=True, help="Compare p99, maxima and jitter too; they are noisy.")
@json_option
@click.pass_context
def compare(context: click.Context, before: Path, after: Path, tails: bool, as_json: bool) -> None:
    """Say what became slower, or larger, from BEFORE to AFTER; exit code 1 where something did.

    Both are documents that a measurement wrote with --out. Figures are held against the drift that
    all of them share, and count when they leave it by more than the others scatter.

    Example: lineside measure compare old/latency.json results/latency.json
    """
    documents = [_read(path) for path in (before, after)]
    found = compare_documents(*documents, tails=tails)
    click.echo(format_document(found) if as_json else _tell(found))
    context.exit(1 if found.worse else 0)


def compare_documents(
    before: Mapping[str, Any], after: Mapping[str, Any], *, tails: bool = False
) -> Comparison:
    """Hold two documents of one measurement against each other.

    Raises:
        InputDataError: they share no figure.
    """
    old, new = (dict(_figures(document, "", tails)) for document in (before, after))
    worse_by = _ratios(old, new)
    bare = [name for name in worse_by if _is_bare(name)]
    # Whatever of ours became slower, all of it maybe, it is neither drift nor noise.
    unchanged = [worse_by[name] for name in (bare or worse_by)]
    drift = math.exp(median(map(math.log, unchanged)))
    beyond = _noise([ratio / drift for ratio in unchanged])
    changes = _changes(old, new, worse_by, drift)
    machines = [str(document.get("machine", "?")) for document in (before, after)]
    return Comparison(
        drift=round(drift, 4),
        drift_of_bare=bool(bare),
        beyond=round(beyond, 4),
        worse=[change for change in changes if change.beside_drift > beyond],
        better=[change for change in changes if change.beside_drift < 1 / beyond],
        figures=len(worse_by),
        missing=sorted(set(old) - set(new)),
        new=sorted(set(new) - set(old)),
        machines=machines if machines[0] != machines[1] else [],
    )


def _ratios(old: Figures, new: Figures) -> dict[str, float]:
    """Of what both have; above 1 is worse."""
    shared = [name for name in old if name in new and old[name][0] > 0 and new[name][0] > 0]
    if not shared:
        raise InputDataError(
            "the two results share no figure: give two of one measurement, e.g. both latency.json"
        )
    return {name: _worse_by(old[name], new[name]) for name in shared}


def _changes(
    old: Figures, new: Figures, worse_by: Mapping[str, float], drift: float
) -> list[Change]:
    """Of all that both have, the largest first."""
    changes = [
        Change(
            name=name,
            before=old[name][0],
            after=new[name][0],
            worse_by=round(ratio, 4),
            beside_drift=round(ratio / drift, 4),
        )
        for name, ratio in worse_by.items()
    ]
    return sorted(changes, key=lambda change: -abs(math.log(change.beside_drift)))


def _is_bare(name: str) -> bool:
    row, _, field = name.rpartition(" ")
    # A row that holds ours against the bare engine's has figures of both.
    return "bare" in field or ("bare" in row and not field.startswith(_OURS))


def _worse_by(before: tuple[float, bool], after: tuple[float, bool]) -> float:
    (old, less_is_better), (new, _) = before, after
    return new / old if less_is_better else old / new


def _noise(beside_drift: Sequence[float]) -> float:
    if len(beside_drift) < _FEW:
        return _FLOOR_OF_FEW
    # The median distance, as large as a standard deviation would be; changes do not enlarge it.
    spread = 1.4826 * median(abs(math.log(ratio)) for ratio in beside_drift)
    return max(_FLOOR, math.exp(_SPREADS * spread))


def _figures(node: object, where: str, tails: bool) -> Iterator[tuple[str, tuple[float, bool]]]:
    if isinstance(node, Mapping):
        for name, below in node.items():
            if name not in _HEAD:
                yield from _figures_of_field(name, below, where, tails)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for place, below in enumerate(node):
            # A row is known by its words and whole numbers, not by its place.
            known = _row_name(below) if isinstance(below, Mapping) else str(place)
            yield from _figures(below, f"{where} {known}".strip(), tails)


def _figures_of_field(
    name: str, below: object, where: str, tails: bool
) -> Iterator[tuple[str, tuple[float, bool]]]:
    told = f"{where} {name}".strip()
    unit = next((unit for unit in reversed(_UNITS) if name.endswith(unit)), None)
    if not isinstance(below, int | float) or isinstance(below, bool):
        yield from _figures(below, told, tails)
        if unit is not None and isinstance(below, Mapping):
            yield from _medians(below, told, _UNITS[unit])
    elif unit is not None and (tails or not any(tail in name for tail in _TAILS)):
        yield told, (float(below), _UNITS[unit])


def _medians(
    below: Mapping[str, Any], where: str, less_is_better: bool
) -> Iterator[tuple[str, tuple[float, bool]]]:
    """Of a field whose name has the unit, and that tells several loops apart (`training`)."""
    for name, told in below.items():
        if isinstance(told, Mapping) and "median" in told:
            yield f"{where} {name}", (float(told["median"]), less_is_better)


def _row_name(row: Mapping[str, Any]) -> str:
    words = [
        f"{value}" if isinstance(value, str) else f"{name}={value}"
        for name, value in row.items()
        if isinstance(value, str | int)
        and not any(name.endswith(unit) for unit in _UNITS)
        and name not in ("rounds", "samples", "count", "seed")
    ]
    return " ".join(words)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(read_whole(path, limit_bytes=_LIMIT_BYTES))
    except (OSError, ValueError) as error:
        raise InputDataError(f"{path}: {error}: give a file that --out wrote") from error
    if not isinstance(document, dict):
        raise InputDataError(f"{path}: no document of a measurement: give one that --out wrote")
    return document


def _tell(found: Comparison) -> str:
    of = "the bare engines" if found.drift_of_bare else "all figures"
    lines = [
        f"{found.figures} figures; {of} drifted by {found.drift:.3f} (above 1: slower or larger), "
        f"which is taken out; beyond {found.beyond:.2f} counts as a change"
    ]
    if found.machines:
        lines.append(f"two machines: {' / '.join(found.machines)}")
    for title, changes in (("worse", found.worse), ("better", found.better)):
        rows = [
            (
                *(change.name, f"{change.before:.6g}", f"{change.after:.6g}"),
                *(f"{change.worse_by:.3f}", f"{change.beside_drift:.3f}"),
            )
            for change in changes
        ]
        if rows:
            head = (title, "before", "after", "ratio", "beside drift")
            lines += ["", format_table(head, rows, right=(1, 2, 3, 4))]
    if not found.worse and not found.better:
        lines.append("nothing changed beyond noise")
    for title, names in (("only before", found.missing), ("only after", found.new)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            lines.append(f"{title}: {'; '.join(names[:5])}{more}")
    return "\n".join(lines)
