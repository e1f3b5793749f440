"""Which image belongs to which sample set, by part; written beside the run and read back.

The split is a function of names, parts and seed alone. Targets play no part, so a pre-training
without targets and a fine-tuning with them split alike, and what the one saw the other never
reports on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.durable import write_durably
from lineside_trainer.data.folds import (
    FOLDS,
    Fractions,
    assign_parts,
    check_fractions,
    draw_parts,
)
from lineside_trainer.data.table import Table
from lineside_trainer.errors import DataError

IntArray = NDArray[np.int64]

SET_NAMES: Final = ("training", "quantisation", "validation", "golden", "assurance", "test")

ASSURANCE: Final = "assurance"
_SPLIT_WORDS: Final = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "assurance": "assurance",
}
_CARVE_SHARE: Final = 0.1
_CARVE_MOST_IMAGES: Final = {"quantisation": 300, "golden": 32}
"""300 is nncf's own default number of samples; golden samples travel inside every bundle."""
_CARVE_BY_PART_FROM: Final = 10


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows of a table by sample set.

    Attributes:
        indices: sorted rows of the table under each of ``SET_NAMES``; together every row, once.
            Only ``assurance`` may be empty: nothing else touches it, and not everybody needs it.
        notes: for reports: what a reader must know to judge the figures.
        seed: it was drawn with.
        by: ``"image"``, ``"group COLUMN"`` or ``"split column COLUMN"``.
        data_sha256: of names and parts of all rows.
    """

    indices: dict[str, IntArray]
    notes: tuple[str, ...]
    seed: int
    by: str
    data_sha256: str

    def fold(self, name: str) -> IntArray:
        """Rows of a whole fold: ``training`` with quantisation, ``validation`` with golden."""
        carved = {"training": "quantisation", "validation": "golden"}.get(name)
        if carved is None:
            return self.indices[name]
        return np.sort(np.concatenate([self.indices[name], self.indices[carved]]))


class _SplitFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    seed: int
    by: str
    data_sha256: str
    notes: tuple[str, ...]
    files: dict[str, tuple[str, ...]]


def split_table(
    table: Table,
    *,
    seed: int,
    fractions: Fractions = (0.6, 0.2, 0.2),
    assurance_share: float = 0.0,
) -> Split:
    """Split by part, or by the table's split column, then carve quantisation and golden samples.

    Args:
        table: of all usable images.
        seed: of every draw.
        fractions: of training, validation and test, of what is left beside the assurance parts.
        assurance_share: of all images, in whole parts that come off before anything else; 0 is
            none. Equal seeds without it give the split they always gave.

    Raises:
        DataError: too few parts, an unknown word in the split column, a part on two sides, or a
            share beside a split column.
    """
    check_fractions(fractions)
    if table.split_column is not None:
        folds, notes = _folds_by_column(table, assurance_share)
    else:
        folds, notes = _folds_by_part(table, fractions, seed, assurance_share)
    indices = dict(folds)
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    for carved, fold in (("quantisation", "training"), ("golden", "validation")):
        indices[carved], indices[fold], note = _carve(table, folds[fold], carved, generator)
        notes += [f"{carved} samples carved from the {fold} fold {note}"]
    return Split(
        indices={name: indices[name] for name in SET_NAMES},
        notes=tuple(notes),
        seed=seed,
        by=_how(table),
        data_sha256=_digest(table),
    )


def write_split(path: Path, split: Split, table: Table) -> None:
    """Write ``split.json`` such that it is whole or absent.

    Raises:
        StorageError: the disk is full, read-only or not ours.
    """
    content = _SplitFile(
        seed=split.seed,
        by=split.by,
        data_sha256=split.data_sha256,
        notes=split.notes,
        files={
            name: tuple(table.records[row].name for row in rows)
            for name, rows in split.indices.items()
        },
    )
    write_durably(path, [msgspec.json.format(msgspec.json.encode(content), indent=1), b"\n"])


def read_split(path: Path, table: Table) -> Split:
    """Read a split back for the data it was made from.

    Raises:
        DataError: no split file, or made from other files, parts or columns than the table's.
    """
    content = _read_file(path)
    _check_same_data(path, content, table)
    row_of = {record.name: row for row, record in enumerate(table.records)}
    return Split(
        indices={
            name: np.array(sorted(row_of[file] for file in content.files[name]), dtype=np.int64)
            for name in SET_NAMES
        },
        notes=content.notes,
        seed=content.seed,
        by=content.by,
        data_sha256=content.data_sha256,
    )


def read_set_names(path: Path) -> dict[str, tuple[str, ...]]:
    """File names by sample set, whatever became of the data since.

    Raises:
        DataError: no split file.
    """
    return _read_file(path).files


def _read_file(path: Path) -> _SplitFile:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_SplitFile)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(f"{path}: not a split file: {error}") from error
    # Runs from before there were assurance samples have none.
    return msgspec.structs.replace(content, files={ASSURANCE: (), **content.files})


def _how(table: Table) -> str:
    if table.split_column is not None:
        return f"split column {table.split_column}"
    return f"group {table.group}" if table.group is not None else "image"


def _digest(table: Table) -> str:
    lines = "".join(f"{record.name}\t{record.part}\n" for record in table.records)
    return hashlib.sha256(lines.encode()).hexdigest()


def _folds_by_column(table: Table, assurance_share: float) -> tuple[dict[str, IntArray], list[str]]:
    column = table.split_column
    if assurance_share:
        raise DataError(
            f"{table.folder}: column {column!r} says which part is in which fold, so no share can "
            "be drawn; leave data.assurance_share away and write assurance into the column"
        )
    rows: dict[str, list[int]] = {fold: [] for fold in (*FOLDS, ASSURANCE)}
    for row, record in enumerate(table.records):
        fold = _SPLIT_WORDS.get((record.split or "").lower())
        if fold is None:
            raise DataError(
                f"{record.name}: column {column!r} says {record.split!r}; "
                f"known are {', '.join(_SPLIT_WORDS)}"
            )
        rows[fold].append(row)
    for fold, members in rows.items():
        if not members and fold != ASSURANCE:
            raise DataError(f"{table.folder}: column {column!r} leaves the {fold} fold empty")
    folds = {fold: np.array(members, dtype=np.int64) for fold, members in rows.items()}
    _check_parts_apart(table, folds)
    return folds, [f"split as column {column!r} says"]


def _check_parts_apart(table: Table, folds: dict[str, IntArray]) -> None:
    home: dict[str, str] = {}
    for fold, rows in folds.items():
        for row in rows:
            part = table.records[row].part
            if home.setdefault(part, fold) != fold:
                raise DataError(
                    f"{table.folder}: part {part!r} is in both {home[part]} and {fold} by column "
                    f"{table.split_column!r}; one part must stay on one side"
                )


def _folds_by_part(
    table: Table, fractions: Fractions, seed: int, assurance_share: float
) -> tuple[dict[str, IntArray], list[str]]:
    names, part_of_row, sizes = np.unique(table.parts, return_inverse=True, return_counts=True)
    try:
        put_by = draw_parts(sizes, assurance_share, seed=seed)
        left = np.flatnonzero(~put_by)
        fold_of_part = np.full(len(names), len(FOLDS))
        fold_of_part[left] = assign_parts(sizes[left].astype(np.int64), fractions, seed=seed)
    except DataError as error:
        where = f"column {table.group!r}" if table.group is not None else "the image files"
        raise DataError(f"{table.folder}: {where}: {error}") from error
    fold_of_row = fold_of_part[part_of_row]
    folds = {fold: np.flatnonzero(fold_of_row == k) for k, fold in enumerate((*FOLDS, ASSURANCE))}
    counts = np.bincount(fold_of_part, minlength=len(folds))
    notes = [
        "split by "
        + (f"column {table.group!r}" if table.group is not None else "image")
        + ": "
        + ", ".join(
            f"{fold} {len(rows) / len(table):.1%} ({counts[k]} parts)"
            for k, (fold, rows) in enumerate(folds.items())
            if fold != ASSURANCE or len(rows)
        )
    ]
    if counts[2] < 2:
        notes.append(
            f"the test fold holds one part only ({names[fold_of_part == 2][0]}): "
            "no interval by part"
        )
    return folds, notes


def _carve(
    table: Table, fold: IntArray, carved: str, generator: np.random.Generator
) -> tuple[IntArray, IntArray, str]:
    """Some of a fold's rows, the rest, and how: whole parts where there are enough of them."""
    parts, part_of_row, sizes = np.unique(
        table.parts[fold], return_inverse=True, return_counts=True
    )
    wanted = min(round(_CARVE_SHARE * len(fold)), _CARVE_MOST_IMAGES[carved])
    if len(fold) < 2:
        raise DataError(
            f"{table.folder}: {len(fold)} image(s) in a fold: none can be carved off as {carved} "
            "samples; at least two are needed: add images"
        )
    if len(parts) < _CARVE_BY_PART_FROM:
        chosen = np.sort(generator.permutation(len(fold))[: max(1, wanted)])
        note = f"by image: it has {len(parts)} part(s), so they share parts with the rest of it"
    else:
        order = generator.permutation(len(parts))
        # Whole parts up to the wanted number, but one at least and never all of them.
        fits = int(np.searchsorted(np.cumsum(sizes[order]), wanted, side="right"))
        taken = order[: min(max(1, fits), len(parts) - 1)]
        chosen = np.flatnonzero(np.isin(part_of_row, taken))
        note = f"by part: {len(taken)} of {len(parts)} parts"
    mask = np.zeros(len(fold), dtype=np.bool_)
    mask[chosen] = True
    return fold[mask], fold[~mask], f"{note}, {int(mask.sum())} of {len(fold)} images"


def _check_same_data(path: Path, content: _SplitFile, table: Table) -> None:
    remedy = "use the data and columns it was made with, or begin a new run"
    if content.by != _how(table):
        raise DataError(f"{path}: split by {content.by}, the data now by {_how(table)}; {remedy}")
    if set(content.files) != set(SET_NAMES):
        raise DataError(f"{path}: holds the sets {', '.join(content.files)}; {remedy}")
    listed = [name for names in content.files.values() for name in names]
    present = {record.name for record in table.records}
    gone, new = sorted(set(listed) - present), sorted(present - set(listed))
    if gone or new or len(listed) != len(set(listed)):
        raise DataError(
            f"{path}: made from other images: {len(gone)} gone ({', '.join(gone[:3])}), "
            f"{len(new)} new ({', '.join(new[:3])}); {remedy}"
        )
    if content.data_sha256 != _digest(table):
        raise DataError(f"{path}: the images now belong to other parts; {remedy}")
