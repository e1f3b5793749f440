"""Bytes to what the function block works with: strict, and a PLC can do the same in few lines.

A PLC does not parse JSON at large. It goes through the bytes once, in the wire's fixed order, and
refuses whatever else comes; `docs/plc/FB_LinesideRead.st` says the same in its language. Whatever
is refused counts as if nothing had come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Final

from lineside.mqtt.schema import (
    CODE_MAX,
    EVALUATION_MAX,
    HAS_LIMIT,
    HAS_SCORE,
    JSON_FIELDS,
    ORIGIN_DIGITS,
    PACKED,
    PACKED_FIELDS,
    PACKED_LIMIT_BYTES,
    PAYLOAD_LIMIT_BYTES,
    SEQ_MAX,
    TIME_MAX_MS,
    VERDICT_VERSION,
    Kind,
)
from lineside.mqtt.state import STATE_VERSION

TEXT_LIMIT_BYTES: Final = 32
BEAT_LIMIT_S: Final = 3600
_NUMBER: Final = rb"-?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:e[+-]?[0-9]{1,2})?"
_VALUES: Final = {
    Kind.INTEGER: rb"([0-9]{1,18})",
    Kind.FLOAT: rb"(null|(?=[^,}]*[.e])" + _NUMBER + rb")",
    Kind.TEXT: rb'"([^"\\\x00-\x1f]{0,%d})"' % TEXT_LIMIT_BYTES,
}
_PACKED_NAMES: Final = tuple(field.plc_name for field in PACKED_FIELDS)
_OK: Final = 1


def _pattern(keys: list[tuple[str, Kind]]) -> bytes:
    fields = (b'"' + key.encode() + b'":' + _VALUES[kind] + rb"(?=[,}])" for key, kind in keys)
    return rb"\{" + b",".join(fields)


_VERDICT: Final = re.compile(
    _pattern([(field.key, field.kind) for field in JSON_FIELDS]) + rb"(?:,.*)?\}", re.DOTALL
)
_STATE: Final = re.compile(
    _pattern(
        [
            *(("v", Kind.INTEGER), ("st", Kind.INTEGER), ("state", Kind.TEXT)),
            *(("reason", Kind.TEXT), ("t", Kind.INTEGER), ("beat_s", Kind.INTEGER)),
        ]
    )
)


@dataclass(frozen=True, kw_only=True)
class HeardVerdict:
    """What the block needs of a verdict.

    Attributes:
        origin: of the outbox; another one counts ``seq`` anew.
        taken_ms, expires_ms: milliseconds since 1970 UTC, the station's clock.
        evaluation: 0 to 3, ``code`` 0 to 99.
        score, limit: in the bundle's unit, ``None`` where there is none.
    """

    origin: int
    seq: int
    part: str
    taken_ms: int
    expires_ms: int
    evaluation: int
    code: int
    score: float | None
    limit: float | None


@dataclass(frozen=True, kw_only=True)
class HeardState:
    """What the block needs of a state: ``state`` 0 to 2, ``written_ms`` since 1970 UTC."""

    state: int
    written_ms: int
    beat_s: int


def read_verdict(data: bytes) -> HeardVerdict | None:
    """A verdict, from either topic; ``None`` where it is malformed (rule R2)."""
    heard = _read_json(data) if data[:1] == b"{" else _read_packed(data)
    return heard if heard is not None and _is_sound(heard) else None


def read_state(data: bytes) -> HeardState | None:
    """The beginning of a state; ``None`` where it is malformed (rule R2)."""
    found = _STATE.match(data[:PAYLOAD_LIMIT_BYTES])
    if found is None:
        return None
    version, state, written_ms, beat_s = (int(found[group]) for group in (1, 2, 5, 6))
    if version != STATE_VERSION or state > 2 or written_ms > TIME_MAX_MS:
        return None
    if beat_s > BEAT_LIMIT_S or (beat_s == 0 and state != 0):
        return None
    return HeardState(state=state, written_ms=written_ms, beat_s=beat_s)


def _read_json(data: bytes) -> HeardVerdict | None:
    found = _VERDICT.fullmatch(data) if len(data) <= PAYLOAD_LIMIT_BYTES else None
    if found is None:
        return None
    value = dict(zip((field.key for field in JSON_FIELDS), found.groups(), strict=True))
    identity = value["id"].decode("latin-1")
    if not re.fullmatch("[0-9a-f]{18}", identity) or int(value["v"]) != VERDICT_VERSION:
        return None
    if int(identity[ORIGIN_DIGITS:], 16) != int(value["seq"]):
        return None
    return HeardVerdict(
        origin=int(identity[:ORIGIN_DIGITS], 16),
        seq=int(value["seq"]),
        part=value["part"].decode("latin-1"),
        taken_ms=int(value["t"]),
        expires_ms=int(value["exp"]),
        evaluation=int(value["ev"]),
        code=int(value["code"]),
        score=_float_of(value["score"]),
        limit=_float_of(value["limit"]),
    )


def _read_packed(data: bytes) -> HeardVerdict | None:
    # Not by unpack_verdict: it also looks at unit and model, which a PLC does not need.
    if not PACKED.size <= len(data) <= PACKED_LIMIT_BYTES:
        return None
    value = dict(zip(_PACKED_NAMES, PACKED.unpack_from(data), strict=True))
    flags, score, limit = value["nFlags"], value["fScore"], value["fLimit"]
    part, end, _ = value["sPart"].partition(b"\0")
    if value["nVersion"] != VERDICT_VERSION or value["nSize"] != len(data) or not end:
        return None
    if (flags & HAS_SCORE and not isfinite(score)) or (flags & HAS_LIMIT and not isfinite(limit)):
        return None
    return HeardVerdict(
        origin=value["nOrigin"],
        seq=value["nSeq"],
        part=part.decode("latin-1"),
        taken_ms=value["nTakenMs"],
        expires_ms=value["nExpiresMs"],
        evaluation=value["nEvaluation"],
        code=value["nCode"],
        score=score if flags & HAS_SCORE else None,
        limit=limit if flags & HAS_LIMIT else None,
    )


def _is_sound(heard: HeardVerdict) -> bool:
    return (
        1 <= heard.seq <= SEQ_MAX
        and heard.taken_ms < heard.expires_ms <= TIME_MAX_MS
        and heard.evaluation <= EVALUATION_MAX
        and heard.code <= CODE_MAX
        # OK comes with code 0 and no other: what contradicts itself is no OK.
        and (heard.evaluation != _OK or heard.code == 0)
        and len(heard.part) <= TEXT_LIMIT_BYTES
        and all(" " <= letter <= "~" for letter in heard.part)
    )


def _float_of(text: bytes) -> float | None:
    return None if text == b"null" else float(text)
