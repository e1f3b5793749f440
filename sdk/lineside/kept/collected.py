"""The folder that `lineside collect` writes and the trainer reads: images and ``labels.csv``."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from lineside.durable import replace_durably, sync_folder
from lineside.errors import FrameError, StorageError
from lineside.frame import decode_frame, encode_png
from lineside.kept.collecting import CollectedFrame, Collection
from lineside.kept.facts import read_kept
from lineside.outbox.entry import RegionEntry
from lineside.verdict import Evaluation, Region

COLUMNS: Final = (
    *("file", "part", "product", "region", "evaluation", "reason", "score", "limit", "unit"),
    *("bundle", "taken", "turn", "seq", "id", "why", "late_evaluation", "late_score"),
    *("disposition", "defect", "part_disposition", "by", "note", "reviewed"),
)
"""Of ``labels.csv``, in order; docs/station.md says what each holds."""

_IMAGES: Final = "images"
GOOD_NAME: Final = "ok"


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was written; ``collected.json`` holds it too.

    Attributes:
        images: rows of ``labels.csv``.
        parts: physical parts among them; one that is unknown counts as a part of its own.
        why: images by what they were kept for.
        dispositions: images by what a human said of them, ``OK`` and ``NOT_OK``.
        without_row: frames that the journal does not know.
        unreadable: frames that could not be read; they are left out.
        unused_dispositions: those about parts of which no frame was kept.
        strange_dispositions: notes that this version cannot read.
        passed_over: frames that were not asked for.
    """

    images: int
    parts: int
    why: dict[str, int]
    dispositions: dict[str, int]
    without_row: int
    unreadable: tuple[str, ...]
    unused_dispositions: int
    strange_dispositions: int
    passed_over: int


def write_collection(
    collection: Collection, out: Path, *, told: dict[str, str] | None = None
) -> Collected:
    """Write the folder aside, and rename it into its place.

    Args:
        collection: at least one frame.
        out: not there yet, or empty.
        told: of where it comes from, for ``collected.json``.

    Raises:
        StorageError: it cannot be written; nothing is left of it then.
        FrameError: not one of the frames could be read.
    """
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        (aside / _IMAGES).mkdir(parents=True)
        rows, unreadable = _write_images(collection, aside / _IMAGES)
        summary = _summary(collection, rows, unreadable)
        _write(aside / "labels.csv", _table(rows))
        document = msgspec.json.encode({"from": told or {}, **msgspec.structs.asdict(summary)})
        _write(aside / "collected.json", msgspec.json.format(document, indent=2) + b"\n")
        sync_folder(aside / _IMAGES)
        sync_folder(aside)
        replace_durably(aside, out)
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written: {error.strerror}; free space there, or give another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(aside)
    return summary


def _write_images(
    collection: Collection, folder: Path
) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    rows: list[dict[str, str]] = []
    unreadable = [str(path) for path in collection.damaged]
    for frame in collection.frames:
        try:
            images = list(_images(frame))
        except FrameError:
            unreadable.append(str(frame.file))
            continue
        for name, data, row in images:
            _write(folder / name, data)
            rows.append({"file": f"{_IMAGES}/{name}", **row})
    if not rows:
        raise FrameError(
            f"not one of {len(unreadable)} kept frame(s) can be read, e.g. {unreadable[0]}",
            reason="frame_decode",
        )
    return rows, tuple(unreadable)


def _images(frame: CollectedFrame) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """A frame as it lies there, or each of its regions: that is what the model gets."""
    facts, data = read_kept(frame.file)
    if facts is None:
        raise FrameError(f"{frame.file}: its facts do not hold", reason="frame_decode")
    # Where nothing was inspected (a deadline, an overload) only the file knows the regions.
    entries = (frame.row.entry.regions if frame.row is not None else ()) or facts.regions
    regions = [(entry, entry.region) for entry in entries if entry.region is not None]
    if not regions:
        yield frame.file.name, data, _row(frame)
        return
    pixels_hwc = decode_frame(data, source=str(frame.file)).pixels_hwc
    for number, (entry, region) in enumerate(regions, start=1):
        if not _lies_inside(region, pixels_hwc.shape):
            told = f"{frame.file}: region {entry.name!r} lies outside"
            raise FrameError(told, reason="frame_size")
        cut_hwc = pixels_hwc[region.y0_px : region.y1_px, region.x0_px : region.x1_px]
        name = frame.file.name.replace(".frame.png", f".region-{number:03d}.png")
        yield name, encode_png(cut_hwc), _region_row(frame, entry, alone=len(regions) == 1)


def _lies_inside(region: Region, shape_hwc: tuple[int, ...]) -> bool:
    return (
        0 <= region.y0_px < region.y1_px <= shape_hwc[0]
        and 0 <= region.x0_px < region.x1_px <= shape_hwc[1]
    )


def _row(frame: CollectedFrame) -> dict[str, str]:
    facts, entry = frame.facts, None if frame.row is None else frame.row.entry
    said = entry or facts
    return {
        # One part stays one group; one that is unknown is a group of its own.
        "part": frame.part or f"turn-{facts.turn}",
        "product": said.product,
        "evaluation": _word(said.evaluation),
        "reason": said.reason,
        "score": _figure(said.score),
        "limit": _figure(said.limit),
        "unit": said.unit,
        "bundle": facts.model if entry is None else entry.bundle[:16],
        "taken": _moment(facts.taken_unix_ns),
        "turn": facts.turn,
        "seq": "" if frame.row is None else str(frame.row.seq),
        "id": "" if frame.row is None else frame.row.job_id,
        "why": " ".join(facts.why),
        "late_evaluation": "" if frame.late is None else _word(frame.late.evaluation),
        "late_score": "" if frame.late is None else _figure(frame.late.score),
        **_disposition(frame),
    }


def _disposition(frame: CollectedFrame) -> dict[str, str]:
    said = frame.disposition
    if said is None:
        return {}
    good = said.evaluation == Evaluation.OK
    return {
        "disposition": _word(said.evaluation),
        "defect": GOOD_NAME if good else said.defect,
        "part_disposition": _word(said.evaluation),
        "by": said.by,
        "note": said.note,
        "reviewed": _moment(said.heard_unix_ns),
    }


def _region_row(frame: CollectedFrame, entry: RegionEntry, *, alone: bool) -> dict[str, str]:
    row = _row(frame) | {"region": entry.name}
    if entry.evaluation != Evaluation.UNDEFINED:
        row |= {
            "evaluation": _word(entry.evaluation),
            "reason": entry.reason,
            "score": _figure(entry.score),
        }
    said = frame.disposition
    if said is not None and not alone and said.evaluation != Evaluation.OK:
        # A human spoke of the part: which of its regions is bad, nobody said.
        row |= {"disposition": "", "defect": ""}
    return row


def _summary(
    collection: Collection, rows: list[dict[str, str]], unreadable: tuple[str, ...]
) -> Collected:
    why: dict[str, int] = {}
    dispositions: dict[str, int] = {}
    for row in rows:
        for kind in row["why"].split():
            why[kind] = why.get(kind, 0) + 1
        if said := row.get("disposition", ""):
            dispositions[said] = dispositions.get(said, 0) + 1
    return Collected(
        images=len(rows),
        parts=len({row["part"] for row in rows}),
        why=why,
        dispositions=dispositions,
        without_row=collection.without_row,
        unreadable=unreadable,
        unused_dispositions=collection.unused,
        strange_dispositions=collection.strange,
        passed_over=collection.passed_over,
    )


def _table(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({column: _plain(cell) for column, cell in row.items()})
    return text.getvalue().encode("utf-8")


def _plain(cell: str) -> str:
    r"""A cell that every reader of tables takes: control characters become ``\x07``."""
    return "".join(
        sign.encode("unicode_escape").decode("ascii")
        if unicodedata.category(sign) in ("Cc", "Cs")
        else sign
        for sign in cell
    )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _word(evaluation: int) -> str:
    return Evaluation(evaluation).name if evaluation in set(Evaluation) else ""


def _figure(value: float | None) -> str:
    return "" if value is None else repr(value)


def _moment(unix_ns: int) -> str:
    # Whole milliseconds: a double of seconds would not hold them all.
    seconds, rest_ns = divmod(max(unix_ns, 0), 10**9)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 10**6:03d}Z"
