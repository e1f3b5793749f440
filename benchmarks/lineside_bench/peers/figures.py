"""Do they compute the same, and is the target met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lineside_bench.peers.turning import REFERENCE, Row, reference, row_ratio
from lineside_bench.turns import Micros

TOLERANCES: Final = {"fp32": 1e-3, "bf16": 5e-2, "int8": 5e-2}
"""Of the largest value of torch eager. Between fp32 engines 1e-5 was seen, with float layers
rounded to bfloat16 1e-2, with int8 weights 1e-2."""

TARGET_RATIO: Final = 4.0


def compare_values(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Values beside torch eager's, over the largest of these; the worst of all thread numbers."""
    eager = next((row for row in rows if row.peer.name == REFERENCE), None)
    if eager is None:
        return []
    truth = np.asarray(eager.values)
    worst: dict[str, dict[str, Any]] = {}
    for row in rows:
        share = float(np.abs(np.asarray(row.values) - truth).max() / np.abs(truth).max())
        before = worst.get(row.title, {"largest_difference_share": 0.0})
        if row.peer.network or share < before["largest_difference_share"]:
            continue
        limit = TOLERANCES[_arithmetic(row)]
        worst[row.title] = {
            "name": row.title,
            "largest_difference_share": float(f"{share:.3g}"),
            "tolerance_share": limit,
            "same": share <= limit,
        }
    return list(worst.values())


def _arithmetic(row: Row) -> str:
    return "bf16" if row.form == "fp32" and row.peer.rounds else row.form


def targets(rows: Sequence[Row], taken: Mapping[str, Micros], threads: int) -> list[dict[str, Any]]:
    """Lineside's whole inspection in int8 against torch eager: equal threads, and best to best."""
    ours = [row for row in rows if (row.way, row.form) == ("inspect", "int8")]
    found = []
    for words, chosen in (
        (f"both with {threads} threads", (threads,)),
        ("best of each", (threads, None)),
    ):
        eager = _best([row for each in chosen if (row := reference(rows, each))], taken)
        best = _best([row for row in ours if row.threads in chosen], taken)
        if eager is None or best is None:
            continue
        faster = row_ratio(taken, eager, best)
        found.append(
            {
                "what": f"torch eager fp32 over Lineside int8 inspect, p50, {words}",
                "rows": [eager.name, best.name],
                "at_least": TARGET_RATIO,
                "found": faster,
                "met": faster["p50"] >= TARGET_RATIO,
            }
        )
    return found


def _best(rows: Sequence[Row], taken: Mapping[str, Micros]) -> Row | None:
    return min(rows, key=lambda row: float(np.median(taken[row.name])), default=None)
