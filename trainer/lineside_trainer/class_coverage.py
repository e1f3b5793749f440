"""Whether each class stands in each fold, told before hours of training instead of after."""

from __future__ import annotations

import numpy as np

from lineside_trainer.errors import DataError
from lineside_trainer.prepared import IntArray, Prepared

_JUDGED = ("validation", "test")


def check_classes(prepared: Prepared, training: IntArray, good: tuple[str, ...]) -> tuple[str, ...]:
    """Prove that each class can be learnt, and that more than one can be judged.

    Args:
        prepared: with classes, or without any, where there is nothing to prove.
        training: rows to learn from.
        good: which of them are of good parts.

    Returns:
        Notes on classes that a fold cannot judge, and on golden samples that prove no device.

    Raises:
        DataError: a class without a training image, or a fold of one class.
    """
    if not prepared.table.classes:
        return ()
    missing = _missing(prepared, training)
    if missing:
        raise DataError(f"{prepared.table.folder}: {_told(prepared, missing[0])}")
    notes = []
    for name in _JUDGED:
        missing = _missing(prepared, prepared.labelled(name))
        if len(missing) > len(prepared.table.classes) - 2:
            raise DataError(
                f"{prepared.table.folder}: the {name} samples are of one class only, so nothing "
                "could be told apart in them; take another data.split_seed, or add parts of the "
                f"other classes ({', '.join(missing)})"
            )
        if missing:
            notes.append(f"no {name} image is of class {', '.join(missing)}: not judged there")
    return (*notes, *_golden_notes(prepared, good))


def _golden_notes(prepared: Prepared, good: tuple[str, ...]) -> tuple[str, ...]:
    """The exporter refuses golden samples that a constant would pass: better known before."""
    table = prepared.table
    targets = table.targets[prepared.split.indices["golden"]]
    kinds = {table.classes[int(target)] in good for target in targets[~np.isnan(targets)]}
    if len(kinds) == 2:
        return ()
    told = "good parts" if True in kinds else "defects" if kinds else "no known class"
    return (
        f"the {len(targets)} golden samples are all of {told}, which `lineside export` may refuse: "
        "take another data.split_seed, or give more parts",
    )


def _missing(prepared: Prepared, rows: IntArray) -> list[str]:
    present = set(prepared.table.targets[rows].astype(np.int64).tolist())
    classes = prepared.table.classes
    return [name for index, name in enumerate(classes) if index not in present]


def _told(prepared: Prepared, name: str) -> str:
    table = prepared.table
    rows = np.flatnonzero(table.targets == table.classes.index(name))
    parts = np.unique(table.parts[rows])
    where = [
        f"{set_name} {found}"
        for set_name, indices in prepared.split.indices.items()
        if (found := int(np.isin(rows, indices).sum()))
    ]
    return (
        f"no image to learn from is of class {name!r} of column {table.target!r}: it has "
        f"{len(rows)} image(s) of {len(parts)} part(s), by sample set {', '.join(where)}. Each "
        "class wants parts in the training, validation and test folds: add some, take another "
        "data.split_seed, or empty its labels"
    )
