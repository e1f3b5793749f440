"""The README's table of figures, written from the recorded results alone.

A row is a line in `ROWS`: what it says, whose document it is from, and how it is read there. A
result that was not recorded leaves its rows out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from lineside.durable import write_durably
from lineside.errors import InputDataError
from lineside_bench.peers.showing import label

BEGIN: Final = "<!-- figures: written by `lineside measure readme` -->"
END: Final = "<!-- end of figures -->"
_FLAGSHIP: Final = ("vit_tiny", "int8")

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row: ``read`` gives its cell from the document of ``name``."""

    words: str
    name: str
    read: Callable[[Document], str]


@click.command()
@click.argument("readme_file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("results", type=click.Path(path_type=Path, file_okay=False, exists=True))
def readme(readme_file: Path, results: Path) -> None:
    """Write the table of figures into README_FILE from the documents in RESULTS.

    What stands between the two marks is replaced; all else stays.

    Example: lineside measure readme README.md benchmarks/results
    """
    table = figure_table(results)
    written = put_table(readme_file.read_text(encoding="utf-8"), table)
    write_durably(readme_file, [written.encode("utf-8")])
    click.echo(f"{readme_file}: {table.count('.json) |')} figures")


def put_table(text: str, table: str) -> str:
    """A README with this table between its marks.

    Raises:
        InputDataError: the marks are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputDataError(f"the README has no place for figures: put {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def figure_table(results: Path) -> str:
    """Markdown, a row a figure, and below it where and when they were taken."""
    documents = dict(_read_all(results))
    rows = [
        f"| {figure.words} | {figure.read(documents[figure.name])} | "
        f"[{figure.name}](benchmarks/results/{figure.name}.json) |"
        for figure in ROWS
        if figure.name in documents
    ]
    head = ["| what | measured | recorded |", "|---|---|---|"]
    return "\n".join([*head, *rows, "", *_places(documents)])


def _read_all(results: Path) -> Iterator[tuple[str, Document]]:
    for name in dict.fromkeys(figure.name for figure in ROWS):
        path = results / f"{name}.json"
        if path.exists():
            yield name, json.loads(path.read_text(encoding="utf-8"))


def _places(documents: Mapping[str, Document]) -> list[str]:
    machines: dict[str, set[str]] = {}
    for document in documents.values():
        machines.setdefault(document["machine"], set()).add(document["date"][:10])
    return [
        f"Taken on {machine}; {', '.join(sorted(dates))}." for machine, dates in machines.items()
    ]


def _inspect(found: Document) -> str:
    best = _best_flagship(found)
    whole = best["stages"]["whole"]
    return (
        f"{_ms(whole['p50_us'])}, p99 {_ms(whole['p99_us'])} "
        f"({best['engine']}, {best['threads']} thread{'s' * (best['threads'] > 1)})"
    )


def _best_flagship(found: Document) -> Document:
    rows = [
        row
        for row in found["inspections"]
        if (row["model"], row["form"]) == _FLAGSHIP
        and (row["runtime"], row["batch"], row["beside"]) == ("lineside", 1, "idle")
    ]
    best: Document = min(rows, key=lambda row: float(row["stages"]["whole"]["p50_us"]))
    return best


def _beyond_bare(found: Document) -> str:
    best = _best_flagship(found)
    (row,) = (
        row
        for row in found["closeness"]
        if row["against"] == "bare"
        and all(row[name] == best[name] for name in ("model", "form", "engine", "threads"))
    )
    above_us = row["target"]["above"]
    return f"{above_us / 1e3:+.3f} ms ({row['ratio']:.2f} times the bare engine's call)"


def _peer(found: Document) -> str:
    (target,) = (one for one in found["targets"] if one["what"].endswith("best of each"))
    faster = target["found"]
    p50_us = {
        f"{label(row)}, threads {row['threads'] or 'own'}": row["latency"]["p50_us"]
        for row in found["rows"]
    }
    eager, ours = (_ms(p50_us[name]) for name in target["rows"])
    # Of another run than the first row, and several calls in a row: not the same milliseconds.
    return (
        f"{faster['p50']:.2f} times ({faster['low']:.2f} to {faster['high']:.2f}): {ours} against "
        f"{eager}, ten calls in a row"
    )


def _idle_line(found: Document) -> str:
    row = next(row for row in found["rates"] if row["rate_hz"] == 5.0)
    return f"{row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms"


def _knee(found: Document) -> str:
    at = found["passes_twice_idle_at_hz"]
    rates = [row["rate_hz"] for row in found["rates"]]
    if not at:
        return f"beyond {rates[-1]:g} parts/s"
    # Drawn through the rates on both sides: nothing was measured there.
    under = max((rate for rate in rates if rate < at), default=at)
    over = min((rate for rate in rates if rate >= at), default=at)
    return f"about {at:.0f} parts/s (between {under:g} and {over:g})"


def _outage(found: Document) -> str:
    outage = found["outage"]
    return (
        f"{outage['lost']} of {outage['parts']} lost; all of them "
        f"{outage['caught_up_after_return_ms'] / 1e3:.1f} s after its return"
    )


def _installed(found: Document) -> str:
    told = [
        f"{row['distributions']} distributions, {row['installed_bytes'] / 1e6:.0f} MB with "
        f"{row['installation'].partition('[')[2].rstrip(']')}"
        for row in found["sizes"]["installations"]
        if "[" in row["installation"]
    ]
    return "; ".join(told)


def _start(found: Document) -> str:
    def tell(row: Document) -> str:
        low_s, high_s = row["extra_s_interval"]
        beyond = f"{row['extra_s']:+.2f} s, {low_s:+.2f} to {high_s:+.2f}"
        return f"{row['lineside_until_verdict_s']:.2f} s ({beyond})"

    return _by_engine(found, tell)


def _memory(found: Document) -> str:
    return _by_engine(
        found, lambda row: f"{row['lineside_resident_mb']:.0f} MB ({row['extra_mb']:+.0f} MB)"
    )


def _by_engine(found: Document, tell: Callable[[Document], str]) -> str:
    # With OpenVINO the second start counts, from the cache of compiled models.
    wanted = {("onnxruntime", "plain"): "ONNX Runtime", ("openvino", "cached"): "OpenVINO"}
    form = found["starts"][-1]["form"]
    return "; ".join(
        f"{wanted[row['engine'], row['start']]} {tell(row)}"
        for row in found["starts"]
        if row["form"] == form and (row["engine"], row["start"]) in wanted
    )


def _serial(found: Document) -> str:
    rows = [row for row in found["rows"] if row["buffer_bytes"] == 2048]
    shares = [row["share_of_ceiling"] for row in rows]
    fastest = max(rows, key=lambda row: float(row["kib_per_s"]))
    return (
        f"{min(shares):.1%} to {max(shares):.1%} of what the framing carries; "
        f"{fastest['kib_per_s']:.0f} KiB/s at {fastest['baud']:,} baud"
    )


def _mae(found: Document) -> str:
    row = next(row for row in found["rows"] if row["way"] == "mae")
    return (
        f"{row['images_per_s']['lineside']['median']:.0f} images/s; "
        f"{row['not_in_network']['median']:.1%} of a step is not the network's"
    )


def _ms(micros: float) -> str:
    return f"{micros / 1e3:.2f} ms"


ROWS: Final[Sequence[Figure]] = (
    Figure(words="One inspection, ViT-Ti 64x64 in int8, p50", name="latency", read=_inspect),
    Figure(words="… of which is not the engine's", name="latency", read=_beyond_bare),
    Figure(
        words="… faster than torch eager, fp32, each with its better number of threads",
        name="peers",
        read=_peer,
    ),
    Figure(words="Trigger to PLC at 5 parts/s, p50", name="line", read=_idle_line),
    Figure(words="… p99 passes twice its idle value at", name="line", read=_knee),
    Figure(words="Broker away for 5 s at 20 parts/s", name="line", read=_outage),
    Figure(words="Installed on the device", name="footprint", read=_installed),
    Figure(
        words="Process start to first verdict (beyond the bare engine)",
        name="footprint",
        read=_start,
    ),
    Figure(words="Memory once loaded (beyond the bare engine)", name="footprint", read=_memory),
    Figure(words="Flashing over a serial line, buffer 2,048", name="flash", read=_serial),
    Figure(words="Pre-training, MAE ViT-Ti 64x64, on the same CPU", name="training", read=_mae),
)
