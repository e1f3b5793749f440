"""A kept frame is one file: a PNG that carries what was said of it, so neither is ever alone.

The facts stand as JSON in an international text chunk right behind the header (PNG, third edition,
11.3.3.4), keyword ``Lineside``: any viewer shows the picture, and the facts are read without
decoding it.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from lineside.errors import FrameError
from lineside.frame import MAX_FILE_BYTES, Pixels, encode_png
from lineside.kept.naming import name_part, name_time
from lineside.outbox.entry import RegionEntry
from lineside.plainfile import read_whole
from lineside.verdict import Verdict
from lineside.wholetext import whole_text

NAME: Final = re.compile(
    r"(?P<ms>\d{13})_(?P<kind>disagree|undecided|fault|drifting|near|share)_(?P<part>.*)_"
    r"(?P<turn>[0-9a-f]{16})\.frame\.png"
)
"""Time, why it was kept, part, turn: name order is age."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEAD: Final = struct.Struct(">I4s")
_IHDR_BYTES: Final = 8 + 13 + 4
_BEGIN: Final = len(_SIGNATURE) + _IHDR_BYTES
# Keyword, not compressed, no language, no translated keyword.
_PREFIX: Final = b"Lineside\0\0\0\0\0"
_FACTS_LIMIT_BYTES: Final = 2**20
_TURN: Final = re.compile(r"[0-9a-f]{16}")


class KeptFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said of a kept frame; the journal's row of the same turn says more.

    Attributes:
        turn: 16 hex digits, one a part's turn.
        why: what it was kept for: ``disagree`` (a bundle on trial and the one before do),
            ``undecided`` (the score decides nothing), ``fault`` (any other reason for
            ``NOT_DECIDABLE``), ``drifting``, ``near``, ``share``; the first is its kind.
        part: the whole part id.
        taken_unix_ns: when the turn began.
        evaluation: the number of `Evaluation`; ``reason``: the word of `Reason`.
        model: the first 16 hex digits of the bundle's hash.
        regions: where several regions of the frame were inspected.
    """

    turn: str
    why: tuple[str, ...]
    part: str = ""
    taken_unix_ns: int = 0
    evaluation: int = 0
    reason: str = ""
    score: float | None = None
    limit: float | None = None
    unit: str = ""
    product: str = ""
    model: str = ""
    regions: tuple[RegionEntry, ...] = ()

    @property
    def name(self) -> str:
        """Of the file."""
        begins = f"{name_time(self.taken_unix_ns)}_{self.why[0]}"
        return f"{begins}_{name_part(self.part)}_{self.turn}.frame.png"


def facts_of(
    verdict: Verdict,
    *,
    turn: str,
    why: tuple[str, ...],
    part_id: str,
    taken_unix_ns: int,
    regions: tuple[RegionEntry, ...] = (),
) -> KeptFacts:
    """Of a verdict.

    Raises:
        ValueError: the turn is none, so the file would have no name of ours.
    """
    if _TURN.fullmatch(turn) is None:
        raise ValueError(f"turn {turn!r}: 16 hex digits are needed")
    return KeptFacts(
        turn=turn,
        why=why,
        part=whole_text(part_id),
        taken_unix_ns=taken_unix_ns,
        evaluation=int(verdict.evaluation),
        reason=verdict.reason.value,
        score=verdict.score,
        limit=verdict.limit,
        unit=whole_text(verdict.unit),
        product=whole_text(verdict.product),
        model=verdict.model,
        # What the model gave stands in the journal.
        regions=tuple(msgspec.structs.replace(region, outputs={}) for region in regions),
    )


def encode_kept(pixels_hwc: Pixels, facts: KeptFacts) -> bytes:
    """A PNG that `lineside.frame.decode_frame` reads back to the same pixels.

    Args:
        pixels_hwc: (H, W, C) uint8 or uint16, C is 1 or 3 (RGB).
        facts: what it carries.

    Raises:
        FrameError: pixels of another kind, which no PNG of ours holds without loss.
    """
    shape, kind = pixels_hwc.shape, pixels_hwc.dtype
    if kind.name not in ("uint8", "uint16") or len(shape) != 3 or shape[2] not in (1, 3):
        raise FrameError(
            f"pixels {list(shape)} of {kind} cannot be kept without loss", reason="frame_depth"
        )
    if not pixels_hwc.size:
        raise FrameError("a frame without pixels cannot be kept", reason="frame_size")
    png = encode_png(pixels_hwc)
    body = b"iTXt" + _PREFIX + msgspec.json.encode(facts)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_BEGIN] + chunk + png[_BEGIN:]


def read_kept(path: Path) -> tuple[KeptFacts | None, bytes]:
    """A file's facts, and all of its bytes.

    Returns:
        Facts as of `decode_facts`.

    Raises:
        FrameError: it cannot be read.
    """
    try:
        data = read_whole(path, limit_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise FrameError(f"{path}: {error.strerror}", reason="frame_missing") from error
    return decode_facts(data), data


def read_facts(path: Path) -> KeptFacts | None:
    """The facts alone; errors as of `read_kept`."""
    try:
        with path.open("rb") as file:
            return decode_facts(file.read(_BEGIN + 12 + _FACTS_LIMIT_BYTES))
    except OSError as error:
        raise FrameError(f"{path}: {error.strerror}", reason="frame_missing") from error


def decode_facts(png: bytes) -> KeptFacts | None:
    """What stands behind the header; ``None`` where that is none of ours, or damaged."""
    if not png.startswith(_SIGNATURE) or len(png) < _BEGIN + _HEAD.size:
        return None
    size_bytes, kind = _HEAD.unpack_from(png, _BEGIN)
    start = _BEGIN + 4
    body = png[start : start + 4 + size_bytes]
    crc = png[start + 4 + size_bytes : start + 8 + size_bytes]
    whole = kind == b"iTXt" and size_bytes <= _FACTS_LIMIT_BYTES and len(crc) == 4
    if not whole or struct.unpack(">I", crc)[0] != zlib.crc32(body):
        return None
    if not body.startswith(b"iTXt" + _PREFIX):
        return None
    try:
        facts = msgspec.json.decode(body[4 + len(_PREFIX) :], type=KeptFacts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return facts if facts.why and _TURN.fullmatch(facts.turn) else None
