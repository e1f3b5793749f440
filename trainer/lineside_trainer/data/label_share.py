"""A share of the labelled training images, as if the others had never been labelled.

Whole parts are taken, as whoever labels takes a part from the box and labels all its views. The
order is drawn once from the seeds, and a share is a beginning of it: the 10 % lie inside the 20 %,
so that figures over shares differ by what was added and not by another draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

LEAST_LABELLED: Final = 8
"""Images; below that a share is no training set of any kind."""

BY_PART_FROM: Final = 10
"""Parts; of fewer, a tenth is none, and images are taken one by one."""

_DRAW: Final = 2  # of the split's own draws, 0 and 1 are taken (`split.py`)


@dataclass(frozen=True, kw_only=True)
class LabelShare:
    """What is left.

    Attributes:
        rows: (M,) sorted rows of the table that keep their label.
        note: for the report; "" where nothing was taken away.
    """

    rows: IntArray
    note: str


def take_label_share(
    rows: IntArray,
    parts: NDArray[np.str_],
    targets: NDArray[np.float64],
    *,
    share: float,
    seeds: tuple[int, int],
    every_kind: bool,
) -> LabelShare:
    """Take whole parts up to the share; more where too little to learn from would be left.

    Args:
        rows: (M,) labelled rows of the training fold.
        parts: (N,) part ids of the whole table.
        targets: (N,) float64 of the whole table; class numbers in classification.
        share: of the M images, above 0 and at most 1.
        seeds: of the split and of the run; same seeds, same draw, whatever the share.
        every_kind: each different target must stay (classes); else two of them.
    """
    if share >= 1.0:
        return LabelShare(rows=rows, note="")
    kinds = len(np.unique(targets[rows]))
    least_kinds = kinds if every_kind else min(2, kinds)
    by_part = len(np.unique(parts[rows])) >= BY_PART_FROM
    keys = parts[rows] if by_part else rows.astype(str)
    names, key_of_row = np.unique(keys, return_inverse=True)
    order = np.random.Generator(np.random.PCG64([*seeds, _DRAW])).permutation(len(names))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    place_of_row = place[key_of_row]
    taken = _how_many(place_of_row, targets[rows], share=share, least_kinds=least_kinds)
    kept = rows[place_of_row < taken]
    how = f"{taken} of {len(names)} parts" if by_part else "drawn by image, as parts are few"
    least = "every class" if every_kind else f"{least_kinds} different targets"
    return LabelShare(
        rows=kept,
        note=(
            f"label share {share:g}: {len(kept)} of {len(rows)} labelled training images are "
            f"learnt from ({how}; at least {LEAST_LABELLED} images and {least}). Validation keeps "
            "all its labels: it chooses the epoch"
        ),
    )


def _how_many(
    place_of_row: IntArray, targets: NDArray[np.float64], *, share: float, least_kinds: int
) -> int:
    """Length of the beginning that is taken; never falls as the share rises, hence nested."""
    images = np.cumsum(np.bincount(place_of_row))
    # Up to the share and never beyond, but one part at least.
    within = int(np.searchsorted(images, share * len(targets) + 1e-9, side="right"))
    enough = int(np.searchsorted(images, min(LEAST_LABELLED, len(targets)))) + 1
    first_seen = sorted(int(place_of_row[targets == kind].min()) for kind in np.unique(targets))
    return max(1, within, enough, first_seen[least_kinds - 1] + 1)
