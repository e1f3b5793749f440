"""What the journal says of one verdict: everything that made it."""

from __future__ import annotations

import msgspec

from lineside.errors import InputDataError
from lineside.verdict import Finding, Region, Timings
from lineside.wholetext import whole_texts


class RegionEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One region's part in a verdict.

    Attributes:
        name: as ``station.toml`` calls it; ``""`` where the whole frame is inspected.
        region: where on the frame, pixels.
        outputs: what the model gave, by name, where it is not more than a few numbers; ``None``
            for what is none.
    """

    name: str = ""
    region: Region | None = None
    evaluation: int = 0
    reason: str = ""
    score: float | None = None
    outputs: dict[str, tuple[float | None, ...]] = {}


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the journal. Counters and times are those of the station's own clock.

    Attributes:
        turn: 16 hex digits, one a part's turn; a late result and a kept frame carry the same.
        part: the whole part id, not shortened for the wire.
        evaluation: the number of `Evaluation`; ``reason``: the word of `Reason`.
        score, limit: unrounded, in ``unit``.
        product: which kind of part.
        bundle: the bundle's hash, 64 hex digits.
        engine: engine and precision.
        rule: where the limits come from: ``sealed``, ``tightened``, ``override``.
        ok_limit, not_ok_limit: in force, in ``unit``.
        taken_unix_ns: when the turn began; ``latency_us`` from there to the verdict.
        frame_sha256: of the pixels as inspected, 64 hex digits; ``""`` without a frame.
        late: it came after its deadline, and the line heard `Reason.DEADLINE` in its place.
    """

    turn: str
    part: str = ""
    evaluation: int = 0
    reason: str = ""
    detail: str = ""
    score: float | None = None
    limit: float | None = None
    unit: str = ""
    product: str = ""
    bundle: str = ""
    engine: str = ""
    rule: str = ""
    ok_limit: float | None = None
    not_ok_limit: float | None = None
    taken_unix_ns: int = 0
    latency_us: float = 0.0
    timings: Timings = Timings()
    frame_source: str = ""
    frame_sha256: str = ""
    regions: tuple[RegionEntry, ...] = ()
    findings: tuple[Finding, ...] = ()
    late: bool = False


def encode_entry(entry: JournalEntry) -> bytes:
    """As JSON, without what is at its default; surrogates become escapes."""
    try:
        return msgspec.json.encode(entry)
    except UnicodeEncodeError:
        return msgspec.json.encode(whole_texts(msgspec.to_builtins(entry)))


def decode_entry(data: bytes, *, source: str) -> JournalEntry:
    """Read a row back; keys of newer versions are passed over.

    Raises:
        InputDataError: not JSON, a key missing, a value of the wrong kind.
    """
    try:
        return msgspec.json.decode(data, type=JournalEntry)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(f"{source}: no entry of a journal: {error}") from error
