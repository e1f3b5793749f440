"""The verdict on the wire: flat JSON, fixed key order, at most 256 bytes whatever comes in.

``lineside.mqtt.schema`` names the keys in their order and what each may take. The station writes
with ``encode_verdict``; ``lineside listen`` and whoever else reads with ``decode_verdict``.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.schema import (
    MODEL_DIGITS,
    PART_LIMIT_CHARS,
    SEQ_MAX,
    TIME_MAX_MS,
    UNIT_LIMIT_BYTES,
    VERDICT_VERSION,
)
from lineside.verdict import Evaluation, Reason, Verdict

# Only these say that a score was held against a limit; a fault comes without one. Their words are
# short, which leaves a score and a limit their room.
DECIDED: Final = frozenset({Reason.WITHIN_LIMIT, Reason.BEYOND_LIMIT, Reason.BETWEEN_LIMITS})
_HEX: Final = frozenset("0123456789abcdef")


class VerdictMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a PLC hears about one part; the fields are the wire's keys, in the wire's order.

    Attributes:
        v: version of this layout.
        seq: the station's running number, 1 to 10^12 - 1, without gaps.
        id: 18 hex digits, unique for ever; a repeated delivery has the same.
        part: the physical part, at most 32 printable ASCII characters; empty where unknown.
        t: when the part's turn began: the trigger came, or the station took the frame;
            milliseconds since 1970 UTC, the station's clock.
        exp: from then on it is stale, by the same clock; later than ``t``.
        ev: the evaluation: 1 OK, 2 NOT_OK, 3 NOT_DECIDABLE, 0 UNDEFINED.
        score: in ``unit``, six significant digits; ``None`` where no limit decided.
        limit: what the score was held against, in ``unit``; ``None`` where there is none.
        unit: at most 6 bytes of UTF-8.
        reason: why, in a word.
        code: why, as a number.
        model: the first 12 hex digits of the bundle's hash, ``""`` where it is not known.
    """

    v: int = VERDICT_VERSION
    seq: int
    id: str
    part: str
    t: int
    exp: int
    ev: int
    score: float | None
    limit: float | None
    unit: str
    reason: str
    code: int
    model: str

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
    expires_unix_ms: int,
) -> VerdictMessage:
    """Fit a verdict into the wire's ranges; what does not fit is shortened so that one sees it.

    Args:
        seq: 1 to 10^12 - 1.
        job_id: 18 hex digits: 8 of the outbox, 10 of ``seq``.
        taken_unix_ns: when the part's turn began, the station's clock.
        expires_unix_ms: from then on it is stale, the same clock; not later than ``taken`` means
            stale at once.
    """
    taken_ms = min(max(taken_unix_ns // 1_000_000, 0), TIME_MAX_MS - 1)
    return VerdictMessage(
        seq=min(seq, SEQ_MAX),
        id=job_id,
        part=wire_part_id(part_id),
        t=taken_ms,
        exp=min(max(expires_unix_ms, taken_ms + 1), TIME_MAX_MS),
        ev=int(verdict.evaluation),
        score=wire_number(verdict.score) if verdict.reason in DECIDED else None,
        limit=wire_number(verdict.limit),
        unit=wire_unit(verdict.unit),
        reason=verdict.reason.value,
        code=verdict.reason.code,
        model=_wire_model(verdict.model),
    )


def encode_verdict(message: VerdictMessage) -> bytes:
    """A message of ``message_of`` as bytes: at most 256, keys in the order of the definition."""
    # By hand, because floats must keep their point and strings need no escapes by construction.
    text = (
        f'{{"v":{message.v},"seq":{message.seq},"id":"{message.id}","part":"{message.part}",'
        f'"t":{message.t},"exp":{message.exp},"ev":{message.ev},'
        f'"score":{_float_text(message.score)},'
        f'"limit":{_float_text(message.limit)},"unit":"{message.unit}",'
        f'"reason":"{message.reason}","code":{message.code},"model":"{message.model}"}}'
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
    if text == wire_plain(text) and len(text) <= limit_chars:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{wire_plain(text)[: limit_chars - 9]}~{digest}"


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
    return f"{wire_plain(unit)[: UNIT_LIMIT_BYTES - 1]}~"


def _wire_model(model: str) -> str:
    digits = model[:MODEL_DIGITS]
    return digits if len(digits) == MODEL_DIGITS and _HEX.issuperset(digits) else ""


def wire_plain(text: str) -> str:
    """Printable ASCII without quotes and backslash, so each sign is one byte; else ``_``."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in text)
