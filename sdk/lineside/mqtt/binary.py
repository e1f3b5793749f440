"""The verdict as `verdict/bin` carries it: a packed little-endian structure of 104 bytes.

Every field lies on a multiple of its own size, so that a PLC reads it whatever its compiler packs
by. What is missing is 0.0 and a cleared flag, never NaN: some PLCs stop on one.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any, Final

from lineside.errors import InputDataError
from lineside.mqtt.payload import VerdictMessage
from lineside.mqtt.schema import (
    HAS_LIMIT,
    HAS_MODEL,
    HAS_SCORE,
    MODEL_DIGITS,
    ORIGIN_DIGITS,
    PACKED,
    PACKED_FIELDS,
    PACKED_LIMIT_BYTES,
    SEQ_MAX,
    VERDICT_VERSION,
)
from lineside.verdict import REASON_CODES

_WORDS: Final = {code: reason.value for reason, code in REASON_CODES.items()}
_ID: Final = re.compile(rf"[0-9a-f]{{{ORIGIN_DIGITS}}}(?=[0-9a-f]{{10}}\Z)")
_MODEL: Final = re.compile(rf"(?:[0-9a-f]{{{MODEL_DIGITS}}})?")
_NAMES: Final = tuple(field.plc_name for field in PACKED_FIELDS)


def pack_verdict(message: VerdictMessage) -> bytes:
    """A message of ``message_of``, or one that was decoded, as 104 bytes.

    Raises:
        InputDataError: it was not made by a station: a number out of its range, a text too long,
            an id that is not made of origin and ``seq``.
    """
    origin = _ID.match(message.id)
    if origin is None or message.id != f"{origin[0]}{message.seq:010x}":
        raise _refused(message, f"id {message.id!r} does not hold seq {message.seq}")
    if not _MODEL.fullmatch(message.model):
        raise _refused(message, f"model {message.model!r} is not {MODEL_DIGITS} hex digits")
    score, limit = _number(message, message.score), _number(message, message.limit)
    flags = (
        (score is not None) * HAS_SCORE
        | (limit is not None) * HAS_LIMIT
        | (message.model != "") * HAS_MODEL
    )
    try:
        return PACKED.pack(
            message.v,
            PACKED.size,
            message.ev,
            message.code,
            flags,
            message.seq,
            message.t,
            message.exp,
            score or 0.0,
            limit or 0.0,
            int(message.model or "0", 16),
            int(origin[0], 16),
            _text(message, message.unit, 7),
            _text(message, message.part, 35),
        )
    except (struct.error, ValueError) as error:
        raise _refused(message, str(error)) from error


def unpack_verdict(data: bytes, *, source: str) -> VerdictMessage:
    """Read a payload of ``verdict/bin``; what a newer station appends is passed over.

    The reason's word comes of its code; ``""`` where this Lineside does not know it.

    Raises:
        InputDataError: another version, another size than it says, a text that does not end, a
            score that is no number.
    """
    if len(data) < PACKED.size or len(data) > PACKED_LIMIT_BYTES:
        raise InputDataError(
            f"{source}: {len(data)} bytes, a packed verdict has {PACKED.size} to "
            f"{PACKED_LIMIT_BYTES}"
        )
    fields = dict(zip(_NAMES, PACKED.unpack_from(data), strict=True))
    if fields["nVersion"] != VERDICT_VERSION:
        raise InputDataError(f"{source}: version {fields['nVersion']}, not {VERDICT_VERSION}")
    if fields["nSize"] != len(data):
        raise InputDataError(f"{source}: {len(data)} bytes, but says {fields['nSize']}")
    return _message_of(fields, source)


def _message_of(fields: dict[str, Any], source: str) -> VerdictMessage:
    flags: int = fields["nFlags"]
    known = flags & HAS_MODEL
    for name, most in (("nModel", 16**MODEL_DIGITS - 1), ("nSeq", SEQ_MAX)):
        if fields[name] > most:
            raise InputDataError(f"{source}: {name} is {fields[name]}, above {most}")
    return VerdictMessage(
        v=fields["nVersion"],
        seq=fields["nSeq"],
        id=f"{fields['nOrigin']:08x}{fields['nSeq']:010x}",
        part=_text_of(fields["sPart"], "part", source),
        t=fields["nTakenMs"],
        exp=fields["nExpiresMs"],
        ev=fields["nEvaluation"],
        score=_number_of(fields["fScore"], flags & HAS_SCORE, source),
        limit=_number_of(fields["fLimit"], flags & HAS_LIMIT, source),
        unit=_text_of(fields["sUnit"], "unit", source),
        reason=_WORDS.get(fields["nCode"], ""),
        code=fields["nCode"],
        model=f"{fields['nModel']:0{MODEL_DIGITS}x}" if known else "",
    )


def _refused(message: VerdictMessage, why: str) -> InputDataError:
    return InputDataError(f"verdict {message.seq} cannot be packed: {why}")


def _number(message: VerdictMessage, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise _refused(message, f"{value} is no number")
    return value


def _number_of(value: float, counts: int, source: str) -> float | None:
    if not counts:
        return None
    if not math.isfinite(value):
        raise InputDataError(f"{source}: {value} is no number")
    return value


def _text(message: VerdictMessage, text: str, most_bytes: int) -> bytes:
    data = text.encode("utf-8")
    if len(data) > most_bytes or b"\0" in data:
        raise _refused(message, f"{text!r} does not fit into {most_bytes} bytes")
    return data


def _text_of(data: bytes, name: str, source: str) -> str:
    text, end, _ = data.partition(b"\0")
    if not end:
        raise InputDataError(f"{source}: {name} does not end")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputDataError(f"{source}: {name} is no UTF-8: {error}") from error
