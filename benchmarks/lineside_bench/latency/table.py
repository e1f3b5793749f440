"""What was measured, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lineside.cli.table import format_table
from lineside_bench.latency.models import BUSY, IDLE
from lineside_bench.latency.ways import BATCH

_Row = dict[str, Any]


def tell(found: _Row) -> str:
    """Everything, with targets met or missed."""
    return "\n".join(
        [
            *_inspections(found["inspections"]),
            *_journey(found["journey"]),
            *_frames(found["frames"]),
            *_closeness(found["closeness"]),
            *_allocations(found["allocations"]),
            *(f"left out: {words}" for words in found["refused"]),
        ]
    )


def _key(row: _Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("model", "form", "engine", "threads"))


def _inspections(rows: Sequence[_Row]) -> Iterator[str]:
    head = (
        *("model", "form", "engine", "thr", "pre µs", "infer ms", "decide µs", "whole ms", "p90"),
        *("p99", "p99.9", "max", "jitter", "busy p50", "p99", "first ms", f"{BATCH}: one ms"),
    )
    ours = [row for row in rows if row["runtime"] == "lineside"]
    busy = {_key(row): row for row in ours if row["batch"] == 1 and row["beside"] == BUSY}
    together = {_key(row): row for row in ours if row["batch"] == BATCH and row["beside"] == IDLE}
    lines = [
        _inspection(row, busy[_key(row)], together[_key(row)])
        for row in ours
        if row["batch"] == 1 and row["beside"] == IDLE
    ]
    yield "One inspection: idle, then beside one busy process a core; milliseconds unless said"
    yield format_table(head, lines, right=tuple(range(3, len(head))))
    counts = sorted({row["rounds"] for row in ours if row["batch"] == 1 and row["beside"] == IDLE})
    yield (
        f"{counts[0]} to {counts[-1]} rounds each: of fewer than 1,000 p99.9 is all but the "
        "longest. Jitter is p99 less p50"
    )


def _inspection(row: _Row, busy: _Row, together: _Row) -> tuple[str, ...]:
    stages = row["stages"]
    whole = stages["whole"]
    names = ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "jitter_us")
    return (
        *(row["model"], row["form"], row["engine"], str(row["threads"])),
        f"{stages['preprocess']['p50_us']:.1f}",
        _ms(stages["infer"]["p50_us"]),
        f"{stages['decide']['p50_us']:.1f}",
        *(_ms(whole[name]) for name in names),
        _ms(busy["stages"]["whole"]["p50_us"]),
        _ms(busy["stages"]["whole"]["p99_us"]),
        _ms(row["first_call_us"]),
        _ms(together["stages"]["whole"]["p50_us"]),
    )


def _journey(found: _Row) -> Iterator[str]:
    names = ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "jitter_us")
    head = ("stage", "beside", "p50 ms", "p90", "p99", "p99.9", "max", "jitter", "parts")
    rows = [
        (row["stage"], row["beside"], *(_ms(row[name]) for name in names), str(row["rounds"]))
        for row in found["stages"]
    ]
    yield ""
    yield f"Picture's bytes to PLC, {found['model']}, {found['engine']}"
    yield format_table(head, rows, right=tuple(range(2, len(head))))
    yield "PUBACK and PLC both count from the moment at which the verdict is durable"
    if found["without"]:
        yield found["without"]


def _frames(rows: Sequence[_Row]) -> Iterator[str]:
    head = ("stage", "frame", "format", "p50 ms", "p99 ms", "max ms")
    lines = [
        (
            *(row["stage"], row["frame"], row["format"]),
            *(_ms(row[name]) for name in ("p50_us", "p99_us", "max_us")),
        )
        for row in rows
    ]
    yield ""
    yield "Before the model: decoding, and preprocessing to 64x64 gray"
    yield format_table(head, lines, right=(3, 4, 5))


def _closeness(rows: Sequence[_Row]) -> Iterator[str]:
    head = (
        *("model", "form", "engine", "thr", "against", "inspect ms", "bare ms", "ratio"),
        *("above ms", "95 %", "at p10", "limit", "target"),
    )
    lines = []
    for row in rows:
        target = row["target"]
        between = f"{target['above_low'] / 1e3:+.3f} to {target['above_high'] / 1e3:+.3f}"
        lines.append(
            (
                *(row["model"], row["form"], row["engine"], str(row["threads"]), row["against"]),
                *(_ms(row["inspect_p50_us"]), _ms(row["bare_p50_us"]), f"{row['ratio']:.3f}"),
                *(f"{target['above'] / 1e3:+.3f}", between),
                *(f"{target['above_at_p10'] / 1e3:+.3f}", _ms(target["limit"])),
                target["outcome"],
            )
        )
    met = sum(row["target"]["outcome"] == "met" for row in rows)
    yield ""
    yield "Inspector.inspect(frame) against the bare engine's call on the same tensor, p50"
    yield format_table(head, lines, right=(3, 5, 6, 7, 8, 9, 10, 11))
    yield (
        f"target (10 % or 0.25 ms, whichever is larger): met {met} of {len(rows)}. 'bare' is ONNX "
        "Runtime without spinning, as Lineside runs it, and OpenVINO with pinned threads, its "
        "default; 'bare, spinning' is ONNX Runtime's default, 'bare, unpinned' OpenVINO as "
        "Lineside runs it"
    )


def _allocations(rows: Sequence[_Row]) -> Iterator[str]:
    head = ("engine", "frame", "frame bytes", "most held in a call", "target")
    lines = [
        (
            *(row["engine"], row["frame"], f"{row['target']['frame']:,}"),
            *(f"{row['peak_bytes']:,}", row["target"]["outcome"]),
        )
        for row in rows
    ]
    yield ""
    yield "Allocated in a call after warm-up (numpy and Python, by tracemalloc)"
    yield format_table(head, lines, right=(2, 3))


def _ms(micros: float) -> str:
    return f"{micros / 1e3:.3f}"
