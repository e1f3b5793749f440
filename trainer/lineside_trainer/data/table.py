"""The checked table of images: every file opened once, every fault named, nothing dropped silently.

Order is by name, so that the order of rows or of the file system decides nothing.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from lineside.contract import FrameSpec
from lineside.errors import FrameError
from lineside.frame import Pixels, read_frame
from lineside_trainer.data.classes import class_names
from lineside_trainer.data.layouts import CLASS_COLUMN, Layout, Rejected, Row, read_layout
from lineside_trainer.errors import DataError

Progress = Callable[[int, int], None]

LabelKind = Literal["number", "class"]
"""What a target column holds: numbers to regress, or names of classes."""

KEPT_PIXELS_BYTES: Final = 256 * 2**20
"""Frames decoded while checking stay in memory up to here, so that the store need not decode them
again; larger sets are decoded a second time."""

_NAMED_IN_ERRORS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Record:
    """One usable image.

    Attributes:
        file: path that can be opened.
        name: relative to the folder, forward slashes; what reports and ``split.json`` say.
        target: the target column's number, or its class's place in ``Table.classes``; ``None``
            where it holds none.
        label: the target column's text, or the class folder's name; ``None`` where empty.
        part: the physical part; without a group column the image's own name.
        split: the split column's text; ``None`` without one.
    """

    file: Path
    name: str
    target: float | None
    label: str | None
    part: str
    split: str | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a folder holds, in name order.

    Attributes:
        folder: where it was read from.
        records: images that can be opened and are of the one kind ``frame`` says.
        rejected: files that are used for nothing.
        unlabelled: files among ``records`` without a target: pre-training only.
        frame: what the images are; ``size_hw`` is ``None`` where sizes differ.
        target: name of the target column.
        group: name of the group column.
        split_column: name of the split column.
        classes: names, where the target column holds classes; else empty.
        smallest: name of the image with the shortest side.
        smallest_hw: its height and width, pixels as acquired; ``None`` where no file was opened.
        kept_pixels: frames still in memory from checking, by row; see ``KEPT_PIXELS_BYTES``.
    """

    folder: Path
    records: tuple[Record, ...]
    rejected: tuple[Rejected, ...]
    unlabelled: tuple[Rejected, ...]
    frame: FrameSpec
    target: str | None
    group: str | None
    split_column: str | None
    classes: tuple[str, ...] = ()
    smallest: str = ""
    smallest_hw: tuple[int, int] | None = None
    kept_pixels: tuple[Pixels | None, ...] = field(default=(), repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """(N,) float64, NaN where there is none."""
        numbers = [math.nan if r.target is None else r.target for r in self.records]
        return np.array(numbers, dtype=np.float64)

    @cached_property
    def parts(self) -> NDArray[np.str_]:
        """(N,) part ids."""
        return np.array([record.part for record in self.records], dtype=np.str_)

    def pixels(self, row: int) -> Pixels:
        """(H, W, C) of one row as acquired, from memory where it is still there.

        Raises:
            DataError: the file has gone or changed for the worse since the table was read.
        """
        kept = self.kept_pixels[row] if self.kept_pixels else None
        if kept is not None:
            return kept
        try:
            return read_frame(self.records[row].file).pixels_hwc
        except FrameError as error:
            raise DataError(f"{error} (it was readable when the table was made)") from error


def read_table(
    folder: Path,
    *,
    target: str | None,
    group: str | None,
    split_column: str | None = None,
    labels: LabelKind = "number",
    least_classes: int = 2,
    strict: bool = False,
    progress: Progress | None = None,
) -> Table:
    """Read a folder with ``labels.csv``, or class folders, and open every image once.

    Files of another kind (depth, channels) than most are rejected by name: the device will refuse
    such frames too. The white of 16-bit frames is the smallest 2**k - 1 that holds every pixel, so
    that a 12-bit camera fills the range.

    Args:
        folder: what the table's names are relative to.
        target: column to learn; ``None`` for pre-training.
        group: column that says which physical part an image shows.
        split_column: column that says ``train``, ``val`` or ``test``.
        labels: what the target column holds.
        least_classes: how many of them there must be.
        strict: any rejected or unlabelled file is an error.
        progress: called with (done, total) while images are opened.

    Raises:
        DataError: an unknown column, no usable image, no number in the target column, no two
            classes, or, when ``strict``, any file that is not as it should be.
    """
    layout = read_layout(folder)
    _check_columns(folder, layout, {"target": target, "group": group, "split": split_column})
    rows, opened, spec, rejected = _usable_rows(folder, layout, group, progress)
    records = tuple(_record(folder, row, target, group, split_column, layout) for row in rows)
    if not records:
        raise DataError(f"{folder}: not one image can be used: {_listing(rejected)}")
    classes: tuple[str, ...] = ()
    if target is not None and labels == "class":
        classes, records = _classified(folder, records, target, least_classes)
    unlabelled = tuple(_unlabelled(records, target, labels)) if target is not None else ()
    if strict and (rejected or unlabelled):
        raise DataError(f"{folder}: --strict: {_listing((*rejected, *unlabelled))}")
    _check_some_target(folder, target, records, unlabelled)
    smallest = min(rows, key=lambda row: min(opened[row.name].shape_hwc[:2]))
    return Table(
        folder=folder,
        records=records,
        rejected=rejected,
        unlabelled=unlabelled,
        frame=spec,
        target=target,
        group=group,
        split_column=split_column,
        classes=classes,
        smallest=smallest.name,
        smallest_hw=opened[smallest.name].shape_hwc[:2],
        kept_pixels=tuple(opened[row.name].pixels_hwc for row in rows),
    )


def check_numbers(table: Table) -> None:
    """Refuse what was written as a number to learn and is none; an empty cell is no label.

    Raises:
        DataError: with the files and what their cells hold.
    """
    wrong = [entry for record, entry in _with_reasons(table) if record.label is not None]
    if wrong and not table.classes:
        raise DataError(
            f"{table.folder}: column {table.target!r} must hold numbers: {_listing(wrong)}. "
            "Correct these cells, or empty them: such images then count as unlabelled; classes are "
            "learnt with --task classification"
        )


def _with_reasons(table: Table) -> list[tuple[Record, Rejected]]:
    records = {record.name: record for record in table.records}
    return [(records[entry.file], entry) for entry in table.unlabelled]


@dataclass(frozen=True, kw_only=True)
class _Opened:
    shape_hwc: tuple[int, int, int]
    bit_depth: Literal[8, 16]
    brightest: int
    pixels_hwc: Pixels | None


def _check_columns(folder: Path, layout: Layout, asked: dict[str, str | None]) -> None:
    for use, column in asked.items():
        if column is not None and column not in layout.columns:
            raise DataError(
                f"{folder}: no column {column!r} (asked for as {use}); {layout.kind}: the columns "
                f"are {', '.join(layout.columns) or 'none besides file'}"
            )


def _usable_rows(
    folder: Path, layout: Layout, group: str | None, progress: Progress | None
) -> tuple[list[Row], dict[str, _Opened], FrameSpec, tuple[Rejected, ...]]:
    rows, nameless = _rows_with_parts(layout, group)
    opened, undecodable = _open_all(folder, rows, progress)
    spec, others = _common_kind(opened)
    late = sorted([*nameless, *undecodable, *others], key=lambda entry: entry.file)
    refused = {entry.file for entry in late}
    usable = [row for row in rows if row.name not in refused]
    return usable, opened, spec, (*layout.rejected, *late)


def _rows_with_parts(layout: Layout, group: str | None) -> tuple[list[Row], list[Rejected]]:
    rows = sorted(layout.rows, key=lambda row: row.name)
    if group is None:
        return rows, []
    nameless = [
        Rejected(file=row.name, reason=f"column {group!r} is empty: its part is unknown")
        for row in rows
        if not row.cells[group]
    ]
    return [row for row in rows if row.cells[group]], nameless


def _open_all(
    folder: Path, rows: Sequence[Row], progress: Progress | None
) -> tuple[dict[str, _Opened], list[Rejected]]:
    """Decode in threads (OpenCV lets go of the interpreter); results in row order."""
    opened: dict[str, _Opened] = {}
    rejected: list[Rejected] = []
    room = KEPT_PIXELS_BYTES
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(lambda row: _open(folder, row), rows)
        for done, (row, result) in enumerate(zip(rows, results, strict=True), start=1):
            if isinstance(result, Rejected):
                rejected.append(result)
            else:
                pixels = result.pixels_hwc
                room -= pixels.nbytes if pixels is not None else 0
                opened[row.name] = result if room >= 0 else replace(result, pixels_hwc=None)
            if progress is not None:
                progress(done, len(rows))
    return opened, rejected


def _open(folder: Path, row: Row) -> _Opened | Rejected:
    try:
        pixels = read_frame(folder / row.name).pixels_hwc
    except FrameError as error:
        # The message starts with the path, which the listing already names.
        reason = str(error).removeprefix(f"{folder / row.name}: ")
        return Rejected(file=row.name, reason=reason)
    return _Opened(
        shape_hwc=cast(tuple[int, int, int], pixels.shape),
        bit_depth=16 if pixels.dtype == np.uint16 else 8,
        brightest=int(pixels.max()),
        pixels_hwc=pixels,
    )


def _common_kind(frames: dict[str, _Opened]) -> tuple[FrameSpec, list[Rejected]]:
    """What most images are, and the others by name; equal numbers go to the lesser kind."""
    counts = Counter((o.bit_depth, o.shape_hwc[2]) for o in frames.values())
    if not counts:
        return FrameSpec(size_hw=None, channels=1), []
    depth, channels = kind = max(counts, key=lambda key: (counts[key], -key[0], -key[1]))
    others = [
        Rejected(
            file=name,
            reason=f"{o.bit_depth} bit with {o.shape_hwc[2]} channel(s), where {counts[kind]} of "
            f"{len(frames)} images have {depth} bit with {channels}; a model takes one kind, "
            "convert it",
        )
        for name, o in frames.items()
        if (o.bit_depth, o.shape_hwc[2]) != kind
    ]
    chosen = [o for o in frames.values() if (o.bit_depth, o.shape_hwc[2]) == kind]
    sizes = {o.shape_hwc[:2] for o in chosen}
    white = (1 << max(8, max(o.brightest for o in chosen).bit_length())) - 1
    spec = FrameSpec(
        size_hw=sizes.pop() if len(sizes) == 1 else None,
        channels=cast(Literal[1, 3], channels),
        bit_depth=depth,
        window=(0, white) if depth == 16 else (0, 65535),
    )
    return spec, others


def _record(
    folder: Path,
    row: Row,
    target: str | None,
    group: str | None,
    split_column: str | None,
    layout: Layout,
) -> Record:
    text = row.cells[target] if target is not None else ""
    if target is None and layout.kind == "class folders":
        text = row.cells[CLASS_COLUMN]
    return Record(
        file=folder / row.name,
        name=row.name,
        target=_number(text) if target is not None else None,
        label=text or None,
        part=row.cells[group] if group is not None else row.name,
        split=row.cells[split_column] if split_column is not None else None,
    )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _classified(
    folder: Path, records: tuple[Record, ...], target: str, least: int
) -> tuple[tuple[str, ...], tuple[Record, ...]]:
    """The classes, and the records with their class's place as target."""
    try:
        classes, names = class_names((record.label for record in records), target, least=least)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    place = {name: float(index) for index, name in enumerate(classes)}
    pairs = zip(records, names, strict=True)
    return classes, tuple(replace(record, target=place.get(name)) for record, name in pairs)


def _unlabelled(records: Sequence[Record], target: str, labels: LabelKind) -> list[Rejected]:
    wanted = "no finite number" if labels == "number" else "no class"
    return [
        Rejected(
            file=record.name,
            reason=f"unlabelled: column {target!r} "
            + (f"holds {record.label!r}, {wanted}" if record.label else "is empty"),
        )
        for record in records
        if record.target is None
    ]


def _check_some_target(
    folder: Path, target: str | None, records: Sequence[Record], unlabelled: Sequence[Rejected]
) -> None:
    if target is not None and len(unlabelled) == len(records):
        raise DataError(
            f"{folder}: not one number to learn from in column {target!r}; write them with a "
            "decimal point, or learn classes with --task classification: "
            f"{_listing(unlabelled)}"
        )


def _listing(entries: Sequence[Rejected]) -> str:
    shown = "; ".join(f"{entry.file}: {entry.reason}" for entry in entries[:_NAMED_IN_ERRORS])
    more = len(entries) - _NAMED_IN_ERRORS
    return f"{len(entries)} file(s): {shown}" + (f"; and {more} more" if more > 0 else "")
