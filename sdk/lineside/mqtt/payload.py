"""The verdict on the wire: flat JSON, fixed key order, at most 256 bytes whatever comes in.

One schema: ``VerdictMessage`` names the keys in their order, ``BUDGET_BYTES`` what each may take.
The station writes with ``encode_verdict``; ``lineside listen`` and whoever else reads with
``decode_verdict``.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import msgspec

from lineside.errors import InputDataError
from lineside.verdict import Evaluation, Reason, Verdict

PAYLOAD_VERSION: Final = 1
PAYLOAD_LIMIT_BYTES: Final = 256
PART_LIMIT_CHARS: Final = 32
UNIT_LIMIT_BYTES: Final = 6
MODEL_DIGITS: Final = 12
_SEQ_MAX: Final = 10**12 - 1
_TIME_MAX_MS: Final = 10**13 - 1
_LATENCY_MAX_US: Final = 10**8 - 1

# Bytes of each value as it stands on the wire, quotes included.
BUDGET_BYTES: Final = {
    "v": 1,
    "seq": 12,
    "id": 20,
    "part": PART_LIMIT_CHARS + 2,
    "t": 13,
    "ev": 1,
    "score": 12,
    "limit": 12,
    "unit": UNIT_LIMIT_BYTES + 2,
    "reason": 18,
    "code": 2,
    "model": MODEL_DIGITS + 2,
    "lat_us": 8,
}


class VerdictMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a PLC hears about one part; the fields are the wire's keys, in the wire's order.

    Attributes:
        v: version of this layout.
        seq: the station's running number, 1 to 10^12 - 1, without gaps.
        id: 18 hex digits, unique for ever; a repeated delivery has the same.
        part: the physical part, at most 32 printable ASCII characters; empty where unknown.
        t: when the station took the frame, milliseconds since 1970 UTC, the station's clock.
        ev: the evaluation: 1 OK, 2 NOT_OK, 3 NOT_DECIDABLE, 0 UNDEFINED.
        score: in ``unit``, six significant digits; ``None`` where there is none.
        limit: what the score was held against, in ``unit``; ``None`` where there is none.
        unit: at most 6 bytes of UTF-8.
        reason: why, in a word.
        code: why, as a number.
        model: the first 12 hex digits of the bundle's hash.
        lat_us: from taking the frame to the evaluation, microseconds, at most 10^8 - 1.
    """

    v: int = PAYLOAD_VERSION
    seq: int
    id: str
    part: str
    t: int
    ev: int
    score: float | None
    limit: float | None
    unit: str
    reason: str
    code: int
    model: str
    lat_us: int

    @property
    def evaluation(self) -> Evaluation:
        """``ev`` as a word; a number from a newer station is ``UNDEFINED``, never ``OK``."""
        return Evaluation(self.ev) if self.ev in set(Evaluation) else Evaluation.UNDEFINED


def message_of(
    verdict: Verdict,
    *,
    seq: int,
    job_id: str,
    part_id: str,
    taken_unix_ns: int,
    latency_us: float,
) -> VerdictMessage:
    """Fit a verdict into the wire's ranges; what does not fit is shortened so that one sees it."""
    # A score that is no number must not look like one beside the reason that says so.
    has_score = verdict.reason is not Reason.SCORE_NOT_FINITE
    return VerdictMessage(
        seq=min(seq, _SEQ_MAX),
        id=job_id,
        part=wire_part_id(part_id),
        t=min(max(taken_unix_ns // 1_000_000, 0), _TIME_MAX_MS),
        ev=int(verdict.evaluation),
        score=wire_number(verdict.score) if has_score else None,
        limit=wire_number(verdict.limit),
        unit=wire_unit(verdict.unit),
        reason=verdict.reason.value,
        code=verdict.reason.code,
        model=_plain(verdict.model)[:MODEL_DIGITS],
        lat_us=min(max(round(latency_us), 0), _LATENCY_MAX_US),
    )


def encode_verdict(message: VerdictMessage) -> bytes:
    """A message of ``message_of`` as bytes: at most 256, keys in the order of the definition."""
    # By hand, because floats must keep their point and strings need no escapes by construction.
    text = (
        f'{{"v":{message.v},"seq":{message.seq},"id":"{message.id}","part":"{message.part}",'
        f'"t":{message.t},"ev":{message.ev},"score":{_float_text(message.score)},'
        f'"limit":{_float_text(message.limit)},"unit":"{message.unit}",'
        f'"reason":"{message.reason}","code":{message.code},"model":"{message.model}",'
        f'"lat_us":{message.lat_us}}}'
    )
    return text.encode("utf-8")


def decode_verdict(data: bytes, *, source: str) -> VerdictMessage:
    """Read a payload; keys of newer stations are passed over.

    Raises:
        InputDataError: not JSON, a key missing, a value of the wrong kind.
    """
    try:
        return msgspec.json.decode(data, type=VerdictMessage)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(f"{source}: no verdict of Lineside: {error}") from error


def wire_part_id(part_id: str) -> str:
    """The part id itself where 32 plain ASCII characters hold it, else a shortened, unique one."""
    return wire_text(part_id, limit_chars=PART_LIMIT_CHARS)


def wire_text(text: str, *, limit_chars: int) -> str:
    """The text itself where so many plain ASCII characters hold it, else a shortened, unique one.

    A shortened one is its beginning (of a part id 23 characters), ``~``, and 8 hex digits of the
    SHA-256 of the whole: cutting alone would give two parts one name.
    """
    if text == _plain(text) and len(text) <= limit_chars:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_plain(text)[: limit_chars - 9]}~{digest}"


def wire_number(value: float | None) -> float | None:
    """Six significant digits, between 1e-99 and 9.99999e+99 in size; ``None`` for no number."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    if abs(rounded) < 1e-99:
        return 0.0
    return math.copysign(min(abs(rounded), 9.99999e99), rounded)


def _float_text(value: float | None) -> str:
    """At most 12 characters, always with a point: PLC parsers tell floats from integers by it."""
    if value is None:
        return "null"
    mantissa, mark, exponent = f"{value:.6g}".partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + mark + exponent


def wire_unit(unit: str) -> str:
    """The unit itself where 6 bytes of UTF-8 hold it, else its beginning and ``~``."""
    fits = unit.isprintable() and not set(unit) & set('"\\')
    if fits and len(unit.encode("utf-8")) <= UNIT_LIMIT_BYTES:
        return unit
    return f"{_plain(unit)[: UNIT_LIMIT_BYTES - 1]}~"


def _plain(text: str) -> str:
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in text)
