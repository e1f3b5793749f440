"""Drift: what production looks like against what is sealed, by a sequential test."""

from lineside.drift.monitor import DriftMonitor, DriftState, PartStatistics, tell_promise
from lineside.drift.picture import PictureStatistics, measure_picture
from lineside.drift.reference import (
    DRIFT_PART,
    EMBEDDING_OUTPUT,
    DriftReference,
    FormSpreads,
    Spread,
    decode_reference,
    effective_parts,
    encode_reference,
)
from lineside.drift.settings import DriftSettings
from lineside.drift.watch import StatisticState

__all__ = [
    "DRIFT_PART",
    "EMBEDDING_OUTPUT",
    "DriftMonitor",
    "DriftReference",
    "DriftSettings",
    "DriftState",
    "FormSpreads",
    "PartStatistics",
    "PictureStatistics",
    "Spread",
    "StatisticState",
    "decode_reference",
    "effective_parts",
    "encode_reference",
    "measure_picture",
    "tell_promise",
]
