"""What `lineside verify --explain` says of the drift reference."""

from __future__ import annotations

import msgspec
import numpy as np

from lineside.bundle import Bundle
from lineside.cli.table import format_table
from lineside.drift import DRIFT_PART, DriftReference, Spread, decode_reference

_OF = {
    "good": "validation samples known to be good",
    "all": "all validation samples, too few being known to be good",
}


class WatchedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One statistic of the reference.

    Attributes:
        statistic: its name.
        engine, precision: the form; both "" for statistics of pictures.
        measured: values.
        low, median, high: quantiles 0.05, 0.5 and 0.95.
    """

    statistic: str
    engine: str = ""
    precision: str = ""
    measured: int
    low: float
    median: float
    high: float


def read_reference(bundle: Bundle) -> DriftReference | None:
    """The bundle's drift reference; ``None`` where it has none.

    Raises:
        BundleFormatError: the part is damaged.
    """
    if DRIFT_PART not in bundle.present:
        return None
    return decode_reference(bundle.part(DRIFT_PART), source=f"{bundle.path}: {DRIFT_PART}")


def list_watched(reference: DriftReference) -> tuple[WatchedRow, ...]:
    """Every statistic, scores first."""
    rows = []
    for form in reference.forms:
        rows.append(_row("score", form.score, form.engine, form.precision))
        if form.embedding is not None:
            rows.append(_row("embedding", form.embedding, form.engine, form.precision))
    rows += [_row(name, getattr(reference, name)) for name in ("light", "clipping", "focus")]
    return tuple(rows)


def tell_drift(reference: DriftReference | None) -> str:
    """What drift is held against."""
    if reference is None:
        return "none: a station cannot watch for drift with this bundle; export it again"
    rows = [
        (
            *(row.statistic, row.engine or "all", row.precision, str(row.measured)),
            *(f"{value:.4g}" for value in (row.low, row.median, row.high)),
        )
        for row in list_watched(reference)
    ]
    head = ("statistic", "engine", "precision", "values", "5 %", "median", "95 %")
    told = f"{_OF[reference.of]}, worth {reference.parts:.3g} independent parts"
    return f"{told}\n\n{format_table(head, rows, right=(3, 4, 5, 6))}"


def _row(name: str, spread: Spread, engine: str = "", precision: str = "") -> WatchedRow:
    low, median, high = np.quantile(spread.ordered, (0.05, 0.5, 0.95)).tolist()
    return WatchedRow(
        statistic=name,
        engine=engine,
        precision=precision,
        measured=spread.measured,
        low=low,
        median=median,
        high=high,
    )
