"""The station's health on the wire: flat JSON, fixed key order, at most 4,096 bytes.

``HealthMessage`` keeps groups of figures together; on the wire each figure is a key of its own,
``<group>_<name>``, so that whatever reads JSON can read it without knowing us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.payload import wire_number, wire_part_id, wire_text
from lineside.mqtt.schema import MODEL_DIGITS
from lineside.verdict import Reason

HEALTH_VERSION: Final = 1
# What CODESYS takes in one message. Everything but faults and what is `_LESS_WORTH` always fits.
HEALTH_LIMIT_BYTES: Final = 4096
FAULTS_LIMIT: Final = 8
WORDS_LIMIT_CHARS: Final = 80
NAME_LIMIT_CHARS: Final = 20
# Figures of each group that reach the wire; what is beyond stays away, the last first.
GROUP_LIMITS: Final = {
    "temp": 4,
    "lat": 8,
    "pressure": 4,
    "source": 13,
    "kept": 4,
    "commands": 14,
    "drift": 10,
    "trial": 6,
}
_LESS_WORTH: Final = ("commands", "trial")
_COUNT_MAX: Final = 10**12 - 1
_BYTES_MAX: Final = 10**15 - 1
_LATENCY_MAX_US: Final = 10**8 - 1

Figure: TypeAlias = "float | int | str | None"


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How long one stage takes, microseconds.

    Attributes:
        p50_us, p99_us, max_us: of the last minutes; 0 where nothing came.
        recent: durations that these are of.
        count: durations since the station started.
        total_us: their sum.
    """

    p50_us: float
    p99_us: float
    max_us: float
    recent: int
    count: int
    total_us: float


class HealthFault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that went wrong.

    Attributes:
        t: when it came last, milliseconds since 1970 UTC.
        what: in a word, e.g. ``disk``.
        words: for people; the wire has the first 80 characters.
        count: how often these same words came.
    """

    t: int
    what: str
    words: str
    count: int = 1


class HealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the health topic, in the wire's order; counters run since the station started.

    Attributes:
        v: version of this layout.
        t: when this was written, milliseconds since 1970 UTC.
        up_s: since the station started, seconds.
        runtime: Lineside's version on the station.
        product: what kind of part the bundle judges.
        version: the bundle's version.
        model: the first 12 hex digits of the bundle's hash.
        engine: engine and precision.
        broker: how the publisher stands with the broker, in a word.
        reconnects: connections made after the first.
        queue: verdicts that wait for the broker.
        parts: verdicts given.
        parts_per_min: in the last minute.
        ok, not_ok, not_decidable, undefined: of the parts.
        rss_bytes: memory of the station's process.
        ram_bytes: memory that the machine could still give away.
        disk_bytes: free on the outbox's disk, for the station's user.
        clock_synced: whether something keeps the machine's clock; ``None``: not known.
        temp_c: of the hottest sensor, degrees Celsius.
        temp: by sensor, the hottest first.
        lat: by stage; the wire has ``lat_<stage>_p50_us``, ``…_p99_us`` and ``…_max_us``.
        reason: parts by reason, those that occurred.
        pressure: parts that gave way, and results that came late.
        source: what the source counts, e.g. frames without a part.
        kept: pictures and frames written and lost.
        commands: signed commands done, and those refused by reason.
        drift: figures of the drift monitor.
        trial: of a bundle on trial; empty without one.
        faults: the last ones, the newest first; the wire has ``fault1_t``, ``fault1_what``,
            ``fault1_words`` and ``fault1_count``, then ``fault2_t`` and so on.
    """

    v: int = HEALTH_VERSION
    t: int
    up_s: int
    runtime: str = ""
    product: str = ""
    version: str = ""
    model: str = ""
    engine: str = ""
    broker: str = ""
    reconnects: int = 0
    queue: int = 0
    parts: int = 0
    parts_per_min: float = 0.0
    ok: int = 0
    not_ok: int = 0
    not_decidable: int = 0
    undefined: int = 0
    rss_bytes: int | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    clock_synced: bool | None = None
    temp_c: float | None = None
    temp: Mapping[str, float] = {}
    lat: Mapping[str, StageFigures] = {}
    reason: Mapping[str, int] = {}
    pressure: Mapping[str, int] = {}
    source: Mapping[str, int] = {}
    kept: Mapping[str, int] = {}
    commands: Mapping[str, int] = {}
    drift: Mapping[str, Figure] = {}
    trial: Mapping[str, int] = {}
    faults: tuple[HealthFault, ...] = ()


def encode_health(message: HealthMessage) -> bytes:
    """At most 4,096 bytes, whatever the message holds; floats always have a point."""
    for shorter in _shortened(message):
        payload = msgspec.json.encode({**dict(_head(shorter)), **dict(_faults(shorter.faults))})
        if len(payload) <= HEALTH_LIMIT_BYTES:
            break
    return payload


def decode_health(data: bytes, *, source: str) -> dict[str, Figure]:
    """Read a payload of a health topic: key to figure, in the wire's order.

    Raises:
        InputDataError: not JSON, not flat, or of no version.
    """
    try:
        found = msgspec.json.decode(data, type=dict[str, float | int | str | bool | None])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(f"{source}: no health of Lineside: {error}") from error
    if not isinstance(found.get("v"), int) or not isinstance(found.get("t"), int):
        raise InputDataError(f"{source}: no health of Lineside: v or t is missing")
    return found


def wire_name(name: str) -> str:
    """A name as a part of a key: small letters, digits and ``_``, at most 20 of them."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain[:NAME_LIMIT_CHARS].strip("_") or "unnamed"


def _shortened(message: HealthMessage) -> Iterator[HealthMessage]:
    """What gives way where all is too long: the oldest faults, then figures of `_LESS_WORTH`."""
    replace = msgspec.structs.replace
    for kept in range(min(len(message.faults), FAULTS_LIMIT), -1, -1):
        yield replace(message, faults=message.faults[:kept])
    message = replace(message, faults=())
    for group in _LESS_WORTH:
        figures = getattr(message, group)
        names = list(figures)[: GROUP_LIMITS[group]]
        for kept in range(len(names) - 1, -1, -1):
            message = replace(message, **{group: {name: figures[name] for name in names[:kept]}})
            yield message


def _head(message: HealthMessage) -> Iterator[tuple[str, Figure]]:
    for field in HealthMessage.__struct_fields__:
        value = getattr(message, field)
        if field == "lat":
            yield from _stages(message.lat)
        elif field == "reason":
            # Of the table only, so that their number is bounded.
            known = (reason.value for reason in Reason)
            yield from ((f"reason_{one}", _count(value[one])) for one in known if one in value)
        elif field in GROUP_LIMITS:
            names = list(value)[: GROUP_LIMITS[field]]
            yield from ((f"{field}_{wire_name(name)}", _figure(value[name])) for name in names)
        elif field.endswith("_bytes"):
            yield field, None if value is None else min(max(value, 0), _BYTES_MAX)
        elif field != "faults":
            yield field, _figure(value[:MODEL_DIGITS] if field == "model" else value)


def _stages(stages: Mapping[str, StageFigures]) -> Iterator[tuple[str, Figure]]:
    for name in list(stages)[: GROUP_LIMITS["lat"]]:
        for key in ("p50_us", "p99_us", "max_us"):
            duration_us = round(getattr(stages[name], key))
            yield f"lat_{wire_name(name)}_{key}", min(max(duration_us, 0), _LATENCY_MAX_US)


def _faults(faults: tuple[HealthFault, ...]) -> Iterator[tuple[str, Figure]]:
    for number, fault in enumerate(faults, 1):
        yield f"fault{number}_t", _figure(fault.t)
        yield f"fault{number}_what", wire_name(fault.what)
        yield f"fault{number}_words", wire_text(fault.words, limit_chars=WORDS_LIMIT_CHARS)
        yield f"fault{number}_count", _count(fault.count)


def _figure(value: Figure) -> Figure:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return wire_part_id(value)
    if isinstance(value, float):
        return wire_number(value)
    return min(max(value, -_COUNT_MAX), 10 * _COUNT_MAX)  # times have 13 digits


def _count(value: int) -> int:
    return min(max(value, 0), _COUNT_MAX)
