"""The station's state on the wire: retained, and the broker's to say when the station cannot."""

from __future__ import annotations

import time
from enum import Enum

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.payload import wire_number, wire_part_id, wire_text, wire_unit

STATE_VERSION = 1
STATE_LIMIT_BYTES = 992
WHY_LIMIT_CHARS = 80
WARN_LIMIT_CHARS = 16
REVERTED_LIMIT_CHARS = 24


class StateWord(str, Enum):
    """What a PLC may rely on."""

    OFFLINE = "offline"
    ONLINE = "online"
    FAULT = "fault"

    @property
    def number(self) -> int:
        """0 offline, 1 online, 2 fault."""
        return list(StateWord).index(self)


class StateMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the state topic, in the wire's order. Counters run since the outbox was made.

    Attributes:
        v: version of this layout.
        st: 0 offline, 1 online, 2 fault: no verdicts come, or not all, until it is cured.
        state: the same in a word.
        reason: ``""`` when online; ``disk``, ``source``; offline: ``stopped``, ``failed``,
            ``connection_lost``.
        t: when this was written, milliseconds since 1970 UTC; of a last will: when connected.
        beat_s: the station writes its state at least this often, seconds; 0 in a last will.
        product: what kind of part the bundle judges.
        bundle: the bundle's hash, 64 hex digits.
        version: the bundle's version.
        engine: engine and precision, e.g. ``openvino/int8``.
        runtime: Lineside's version on the station.
        given: verdicts made durable; the last ``seq``.
        acked: verdicts that a broker has acknowledged.
        queue: verdicts that wait for the broker.
        reconnects: connections made since the station started, less one.
        maps_lost: pictures of parts that are not OK that could not be written, since the station
            started; no verdict is.
        limits: where the limits come from: ``sealed``, ``tightened``, ``override``; ``""`` in a
            last will.
        unit: of the limits, at most 6 bytes of UTF-8.
        ok, not_ok: what scores are held against, in ``unit``, six significant digits.
        sealed_ok, sealed_not_ok: the same as the bundle has them.
        limits_by: who decided on the override; ``""`` without one.
        limits_why: the reason that was signed, shortened beyond 80 characters.
        limits_key: whose signature it has, the key id's 32 hex digits.
        warn: what will not stay well, though verdicts come: ``disk``, ``source``, ``drift``;
            ``paused``: it was told to, and decides nothing; ``trial``: one goes on long beyond its
            end;
            ``rival``: another station speaks on these topics; at most 16 characters.
        instance: 8 hex digits, drawn when the station started; ``""`` of an older version.
        slot: ``a`` or ``b``: whose bundle judges; ``""`` of one that lies in no store.
        slot_state: ``confirmed``; ``trial`` too of one that was taken back and judges on because
            nothing else opens.
        counter: the security counter of the bundle that judges.
        next: the bundle that waits for trial, 16 hex digits.
        reverted: why a bundle was taken back last, in a word of at most 24 characters.
        reverted_bundle: which, 16 hex digits.
    """

    v: int = STATE_VERSION
    st: int
    state: StateWord
    reason: str = ""
    t: int
    beat_s: int = 0
    product: str = ""
    bundle: str = ""
    version: str = ""
    engine: str = ""
    runtime: str = ""
    given: int = 0
    acked: int = 0
    queue: int = 0
    reconnects: int = 0
    maps_lost: int = 0
    limits: str = ""
    unit: str = ""
    ok: float | None = None
    not_ok: float | None = None
    sealed_ok: float | None = None
    sealed_not_ok: float | None = None
    limits_by: str = ""
    limits_why: str = ""
    limits_key: str = ""
    warn: str = ""
    instance: str = ""
    slot: str = ""
    slot_state: str = ""
    counter: int = 0
    next: str = ""
    reverted: str = ""
    reverted_bundle: str = ""


def make_state(word: StateWord, *, reason: str = "") -> StateMessage:
    """A state of this moment; the rest is filled in with ``msgspec.structs.replace``."""
    return StateMessage(st=word.number, state=word, reason=reason, t=time.time_ns() // 1_000_000)


def encode_state(message: StateMessage) -> bytes:
    """At most 992 bytes: people's words are shortened like a part id."""
    short = msgspec.structs.replace(
        message,
        product=wire_part_id(message.product),
        version=wire_part_id(message.version),
        engine=wire_part_id(message.engine),
        runtime=wire_part_id(message.runtime),
        unit=wire_unit(message.unit),
        ok=wire_number(message.ok),
        not_ok=wire_number(message.not_ok),
        sealed_ok=wire_number(message.sealed_ok),
        sealed_not_ok=wire_number(message.sealed_not_ok),
        limits_by=wire_part_id(message.limits_by),
        limits_why=wire_text(message.limits_why, limit_chars=WHY_LIMIT_CHARS),
        warn=wire_text(message.warn, limit_chars=WARN_LIMIT_CHARS),
        reverted=wire_text(message.reverted, limit_chars=REVERTED_LIMIT_CHARS),
    )
    return msgspec.json.encode(short)


def decode_state(data: bytes, *, source: str) -> StateMessage:
    """Read a payload of a state topic.

    Raises:
        InputDataError: not JSON, a key missing, a value of the wrong kind.
    """
    try:
        return msgspec.json.decode(data, type=StateMessage)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(f"{source}: no state of Lineside: {error}") from error
