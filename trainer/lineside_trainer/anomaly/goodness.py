"""Which images are of good parts, and the split in which training holds no other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside_trainer.data import Table
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.evaluate.anomaly_limit import check_good_parts
from lineside_trainer.experiment import TrainSettings
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.tasks.classification import GOOD_NAMES

_FEWEST_GOOD: Final = {"training": 2, "quantisation": 1, "validation": 2, "test": 1}
"""Of one image nothing can be said about how good ones differ."""


@dataclass(frozen=True, kw_only=True)
class Goodness:
    """What is known of the images.

    Attributes:
        classes: names, in the order of the table's targets; ("good",) where all images are good
            because no column says otherwise.
        good: which of them are of good parts.
        known: (N,) float64 a row of the table: 1 bad, 0 good, NaN unknown.
    """

    classes: tuple[str, ...]
    good: tuple[str, ...]
    known: NDArray[np.float64]

    def good_rows(self, rows: IntArray) -> IntArray:
        """Those of the rows that are known to be good."""
        chosen: IntArray = rows[self.known[rows] == 0.0]
        return chosen

    def bad_rows(self, rows: IntArray) -> IntArray:
        """Those of the rows that are known to be bad."""
        chosen: IntArray = rows[self.known[rows] == 1.0]
        return chosen

    def known_rows(self, rows: IntArray) -> IntArray:
        """Those of the rows that are known to be either."""
        return rows[~np.isnan(self.known[rows])]


def find_goodness(prepared: Prepared, settings: TrainSettings) -> Goodness:
    """Tell good from bad by the target column; without one every image is good.

    Raises:
        ExperimentError: it is not clear which classes are good.
    """
    table = prepared.table
    if not settings.target:
        return Goodness(classes=("good",), good=("good",), known=np.zeros(len(table)))
    good = _good_classes(settings, table.classes)
    places = [table.classes.index(name) for name in good]
    bad = (~np.isin(table.targets, places)).astype(np.float64)
    known = np.where(np.isnan(table.targets), np.nan, bad)
    return Goodness(classes=table.classes, good=good, known=known)


def _good_classes(settings: TrainSettings, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Those told, else the one with a good name. A class that is alone may be of bad parts."""
    there_are = f"the classes of {settings.target!r} are {', '.join(classes)}"
    strange = [name for name in settings.good if name not in classes]
    if strange:
        raise ExperimentError(
            f"train.good: {strange[0]!r} is no class; {there_are}; give the one of good parts, or "
            "bring images of such parts"
        )
    if settings.good:
        return tuple(name for name in classes if name in settings.good)
    found = tuple(name for name in classes if name.lower() in GOOD_NAMES)
    if len(found) == 1:
        return found
    raise ExperimentError(
        f"train.good: which class is of good parts? {there_are}; give --good NAME, or leave "
        "--target away where all images are of good parts"
    )


def label_all_good(table: Table) -> Table:
    """The table with every image labelled as good, for samples to carry it."""
    records = tuple(replace(record, target=0.0) for record in table.records)
    return replace(table, records=records, unlabelled=())


def spare_bad_parts(prepared: Prepared, goodness: Goodness, *, seen: bool) -> Prepared:
    """Move what training cannot use to where it is worth most: bad parts to the validation samples.

    The split knows no targets, so bad parts fall into the training fold as well. No step learns
    from them; choosing the limit needs them. A part that has good images in the training fold stays
    there, and so do all where a pre-training has seen the fold.

    Args:
        prepared: as it was split.
        goodness: of its images.
        seen: a pre-training learnt from the training fold.
    """
    split, parts = prepared.split, prepared.table.parts
    fold = split.fold("training")
    bad = goodness.bad_rows(fold)
    spared = np.setdiff1d(parts[bad], parts[goodness.good_rows(fold)]) if not seen else parts[:0]
    # With what such a part has of unlabelled images: no part is in two sets.
    moved = fold[np.isin(parts[fold], spared)]
    left = np.setdiff1d(bad, moved)
    indices = dict(split.indices)
    # Ranges are of good parts, too: what is left of the bad ones lies where nothing looks at it.
    indices["quantisation"] = np.setdiff1d(indices["quantisation"], np.union1d(moved, left))
    indices["training"] = np.setdiff1d(fold, np.union1d(indices["quantisation"], moved))
    indices["validation"] = np.union1d(indices["validation"], moved)
    for wanted in (0.0, 1.0):
        _lend_to_golden(indices, prepared, goodness.known == wanted)
    notes = (*split.notes, *_notes(len(bad) - len(left), len(left), seen=seen))
    return replace(prepared, split=replace(split, indices=indices, notes=notes))


def _lend_to_golden(
    indices: dict[str, IntArray], prepared: Prepared, kind: NDArray[np.bool_]
) -> None:
    """Where no golden sample is of this kind, the smallest validation part of it becomes one:
    frames of one kind alone prove little on a device. The last of its kind stays where it is."""
    if kind[indices["golden"]].any():
        return
    rows, parts = indices["validation"], prepared.table.parts
    names, sizes = np.unique(parts[rows[kind[rows]]], return_counts=True)
    if len(names) < 2:
        return
    lent = rows[parts[rows] == names[int(sizes.argmin())]]
    indices["validation"] = np.setdiff1d(rows, lent)
    indices["golden"] = np.union1d(indices["golden"], lent)


def _notes(moved: int, left: int, *, seen: bool) -> list[str]:
    notes = []
    if moved:
        notes.append(
            f"{moved} images of bad parts went from the training fold to the validation samples: "
            "training learns from good parts alone"
        )
    if left:
        shared = "their parts have good images there too"
        why = "the pre-training may have seen them" if seen else shared
        notes.append(f"{left} images of bad parts in the training fold are used for nothing: {why}")
    return notes


def check_goodness(prepared: Prepared, goodness: Goodness) -> None:
    """Prove that there is something to learn from, and a limit to be had.

    Raises:
        DataError: too few good images in a sample set, or of too few parts for a limit.
    """
    for name, fewest in _FEWEST_GOOD.items():
        found = len(goodness.good_rows(prepared.split.indices[name]))
        if found < fewest:
            raise DataError(_too_few(prepared, goodness, name, found, fewest))
    rows = goodness.known_rows(prepared.split.indices["validation"])
    check_good_parts(goodness.known[rows] == 1.0, prepared.table.parts[rows])


def _too_few(prepared: Prepared, goodness: Goodness, name: str, found: int, fewest: int) -> str:
    settings = prepared.table
    total = int((goodness.known == 0.0).sum())
    how = f"column {settings.target!r} says {' or '.join(goodness.good)}"
    told = f"{total} image(s) in all" if settings.target is None else f"{total} in all, where {how}"
    return (
        f"{settings.folder}: {found} image(s) of good parts among the {name} samples, at least "
        f"{fewest} are needed ({told}): bring more good parts, name the good classes with --good, "
        "or take another data.split_seed"
    )
