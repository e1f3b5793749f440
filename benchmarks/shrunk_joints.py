"""Ulger et al. 2023, their solder joints as a folder for `lineside train`, the leak shrunk away.

Each crop is as large as what it shows: its number of pixels alone tells good from bad with an AUROC
of 0.97, and enlarged to one size, small ones are blurred. So each is shrunk to 24x24 px first,
whatever it was; the model then enlarges all of them alike.

The set names no boards. Whole stretches of consecutive numbers of a series stay together, because
neighbours often show the same board. The test images are the same for all seeds, and nothing is
ever chosen on them; each seed draws its training and validation images from the rest.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import Final

import cv2
import numpy as np

SHRUNK_PX: Final = 24
STRETCH: Final = 20
TEST_SHARE: Final = {True: 0.3, False: 0.7}
"""Of the stretches of good and of bad parts: few bad ones are left to choose by."""

VALIDATION_SHARE: Final = 0.2
SEEDS: Final = 10

Row = dict[str, str]


def fold_column(seed: int) -> str:
    """Name of the column that says `train`, `val` or `test` for this seed."""
    return f"fold{seed}"


def write_shrunk_joints(source: Path, folder: Path) -> None:
    """Write the crops and `labels.csv`, with a fold column for each of `SEEDS` seeds.

    Args:
        source: the data set, with its own `labels.csv`.
        folder: left as it is where it was written before.
    """
    if (folder / "labels.csv").exists():
        return
    with (source / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["part"] = f"{row['class']}/{row['series']}/{_number(row) // STRETCH}"
        row["pixels"] = str(int(row["width"]) * int(row["height"]))
        _shrink(source / row["file"], folder / row["file"])
    for seed in range(SEEDS):
        folds = _folds(rows, seed)
        for row in rows:
            row[fold_column(seed)] = folds[row["part"]]
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _folds(rows: list[Row], seed: int) -> dict[str, str]:
    """Fold by part: bad ones go to validation or test, of the good ones the seed draws."""
    series: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        series[row["class"], row["series"]].add(row["part"])
    generator = np.random.default_rng(seed)
    folds: dict[str, str] = {}
    for (kind, _), members in sorted(series.items()):
        parts = sorted(members, key=lambda part: int(part.rpartition("/")[2]))
        good = kind == "normal"
        # The latest numbers: a factory, too, tests on what comes after what it learnt from.
        kept = len(parts) - math.floor(TEST_SHARE[good] * len(parts))
        folds |= dict.fromkeys(parts[kept:], "test")
        rest = parts[:kept]
        drawn = generator.permutation(kept)[: round(VALIDATION_SHARE * kept)]
        validation = {rest[place] for place in drawn} if good else set(rest)
        folds |= {part: "val" if part in validation else "train" for part in rest}
    return folds


def _number(row: Row) -> int:
    return int(float(row["number"] or 0))


def _shrink(source: Path, target: Path) -> None:
    pixels = cv2.imread(str(source), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SystemExit(f"{source}: cannot be read")
    target.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(pixels, (SHRUNK_PX, SHRUNK_PX), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(target), small):
        raise SystemExit(f"{target}: cannot be written")
