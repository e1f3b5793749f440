"""The verdict's layout, once: its JSON keys, its packed bytes, and what each is called in a PLC.

Writers, readers, ``lineside plc-types`` and the tests all go by these two tables. Names follow the
PLCs' habit: ``n`` a number, ``f`` a float, ``s`` a text, ``x`` a flag.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

VERDICT_VERSION: Final = 1
PAYLOAD_LIMIT_BYTES: Final = 256
PACKED_LIMIT_BYTES: Final = 128
PART_LIMIT_CHARS: Final = 32
UNIT_LIMIT_BYTES: Final = 6
REASON_LIMIT_CHARS: Final = 16
# The words that may stand beside a score and a limit are shorter: then all three fit.
DECIDED_REASON_LIMIT_CHARS: Final = 14
ID_DIGITS: Final = 18
ORIGIN_DIGITS: Final = 8
MODEL_DIGITS: Final = 12
SEQ_MAX: Final = 10**12 - 1
TIME_MAX_MS: Final = 10**13 - 1
CODE_MAX: Final = 99
EVALUATION_MAX: Final = 3

HAS_SCORE: Final = 1
HAS_LIMIT: Final = 2
HAS_MODEL: Final = 4


class Kind(Enum):
    """What stands behind a key."""

    INTEGER = "integer"
    FLOAT = "float or null"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class WireField:
    """One key of the JSON, in the wire's order.

    Attributes:
        key: on the wire.
        plc_name: in a PLC's structure.
        budget_bytes: what its value may take at most, quotes included.
        low, high: of an integer, both allowed.
        most_bytes: of a text, without quotes.
        meaning: for people.
    """

    key: str
    kind: Kind
    plc_name: str
    budget_bytes: int
    meaning: str
    low: int = 0
    high: int = 0
    most_bytes: int = 0


def _integer(key: str, plc_name: str, low: int, high: int, meaning: str) -> WireField:
    return WireField(
        key=key,
        kind=Kind.INTEGER,
        plc_name=plc_name,
        budget_bytes=len(str(high)),
        low=low,
        high=high,
        meaning=meaning,
    )


def _text(key: str, plc_name: str, most_bytes: int, meaning: str) -> WireField:
    return WireField(
        key=key,
        kind=Kind.TEXT,
        plc_name=plc_name,
        budget_bytes=most_bytes + 2,
        most_bytes=most_bytes,
        meaning=meaning,
    )


def _float(key: str, plc_name: str, meaning: str) -> WireField:
    # -1.23457e-98
    return WireField(key=key, kind=Kind.FLOAT, plc_name=plc_name, budget_bytes=12, meaning=meaning)


JSON_FIELDS: Final = (
    _integer("v", "nVersion", VERDICT_VERSION, VERDICT_VERSION, "version of this layout"),
    _integer("seq", "nSeq", 1, SEQ_MAX, "running number of the station, without gaps"),
    _text("id", "sId", ID_DIGITS, "18 hex digits, unique for ever"),
    _text("part", "sPart", PART_LIMIT_CHARS, "the physical part, empty where unknown"),
    _integer("t", "nTakenMs", 0, TIME_MAX_MS, "turn began, ms since 1970 UTC, clock of station"),
    _integer("exp", "nExpiresMs", 1, TIME_MAX_MS, "from then on stale, ms since 1970 UTC"),
    _integer(
        "ev", "nEvaluation", 0, EVALUATION_MAX, "1 OK, 2 NOT_OK, 3 NOT_DECIDABLE, 0 UNDEFINED"
    ),
    _float("score", "fScore", "what the model measured, in the unit"),
    _float("limit", "fLimit", "what the score was held against, in the unit"),
    _text("unit", "sUnit", UNIT_LIMIT_BYTES, "unit of score and limit, UTF-8"),
    _text("reason", "sReason", REASON_LIMIT_CHARS, "why, in a word"),
    _integer("code", "nCode", 0, CODE_MAX, "why, as a number"),
    _text("model", "sModel", MODEL_DIGITS, "beginning of the hash of the bundle, hex"),
)
BUDGET_BYTES: Final = {field.key: field.budget_bytes for field in JSON_FIELDS}


@dataclass(frozen=True, kw_only=True)
class PackedField:
    """One field of the packed verdict, in order; every one on a multiple of its own size.

    Attributes:
        plc_name: in a PLC's structure.
        code: of Python's ``struct``.
        meaning: for people.
    """

    plc_name: str
    code: str
    meaning: str

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return struct.calcsize(f"<{self.code}")


PACKED_FIELDS: Final = (
    PackedField(plc_name="nVersion", code="B", meaning="version of this layout: 1"),
    PackedField(plc_name="nSize", code="B", meaning="bytes of the whole message: 104"),
    PackedField(
        plc_name="nEvaluation", code="B", meaning="1 OK, 2 NOT_OK, 3 NOT_DECIDABLE, 0 UNDEFINED"
    ),
    PackedField(plc_name="nCode", code="B", meaning="why, as a number"),
    PackedField(
        plc_name="nFlags", code="I", meaning="1: fScore counts, 2: fLimit counts, 4: nModel counts"
    ),
    PackedField(plc_name="nSeq", code="Q", meaning="running number of the station, without gaps"),
    PackedField(
        plc_name="nTakenMs", code="Q", meaning="turn began, ms since 1970 UTC, clock of station"
    ),
    PackedField(plc_name="nExpiresMs", code="Q", meaning="from then on stale, ms since 1970 UTC"),
    PackedField(plc_name="fScore", code="d", meaning="what the model measured; 0.0 without"),
    PackedField(
        plc_name="fLimit", code="d", meaning="what the score was held against; 0.0 without"
    ),
    PackedField(
        plc_name="nModel", code="Q", meaning="first 48 bits of the hash of the bundle; 0 without"
    ),
    PackedField(
        plc_name="nOrigin", code="I", meaning="of the outbox; id is nOrigin and nSeq in hex, 8 + 10"
    ),
    PackedField(plc_name="sUnit", code="8s", meaning="unit, UTF-8, ended by zeros"),
    PackedField(plc_name="sPart", code="36s", meaning="the physical part, ended by zeros"),
)
PACKED: Final = struct.Struct("<" + "".join(field.code for field in PACKED_FIELDS))
assert PACKED.size == 104
assert PACKED.size <= PACKED_LIMIT_BYTES


def packed_offsets() -> dict[str, int]:
    """Where each packed field begins, bytes."""
    offsets, at = {}, 0
    for field in PACKED_FIELDS:
        offsets[field.plc_name] = at
        at += field.size_bytes
    return offsets
