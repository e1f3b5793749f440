"""Few points that lie near all: greedy k-centre (Roth et al. 2022, algorithm 1; Sener & Savarese
2018), the same points as the plain loop at a fraction of its time.

The plain loop reads every point once for each that it chooses. But distances to the nearest chosen
point only fall, so what was measured before is still an upper bound: while the farthest of a few
thousand candidates is at least as far as the bound of all others, it is the farthest of all, and
nobody else need be read. Then all are measured against the new ones at once, by a matrix product.
Of 62,000 points of width 192, 2,000 take 1.3 s on one busy core of an EPYC, the plain loop 15 s.

The paper's random projection (to 128: 15 s, to 64: 3 s) is left out: it is no faster, and leaves
the farthest point at 0.092 and 0.095 from the nearest chosen one instead of 0.074.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

Progress = Callable[[int, int], None]
"""Called with how many are done, of how many."""

SAME_BELOW: Final = 1e-5
"""Share of a point's squared length. The squared distance of equal fp32 points, as a difference of
products, is not 0 but up to 2e-6 of that, at 64 to 1,024 channels. Below this, a point is there
already."""

_CANDIDATES: Final = 4096
_PRODUCTS_AT_ONCE: Final = 2**22  # 16 MiB


@dataclass(frozen=True, kw_only=True)
class Coreset:
    """What was chosen.

    Attributes:
        rows: (K,) int64 rows of the points, in the order of choice: the first k of them are the
            core-set of k.
        asked: how many were wanted; K is less where all others are duplicates.
        reach: largest distance from any point to its nearest chosen one.
    """

    rows: Tensor
    asked: int
    reach: float


@torch.no_grad()
def choose_coreset(
    points: Tensor, count: int, *, seed: int, progress: Progress | None = None
) -> Coreset:
    """Choose the farthest point from those chosen so far, again and again.

    Args:
        points: (N, width) float32, N at least 1, on any device; distances are Euclidean.
        count: how many to choose; with fewer different points, all of these.
        seed: of the first one.
        progress: of long choices.

    Returns:
        The same on every call; between devices or torch's versions the order of sums may turn a
        tie.
    """
    first = int(torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(seed)))
    chosen = [first]
    lengths = points.square().sum(dim=1)  # (N,)
    nearest = torch.full_like(lengths, torch.inf)
    fresh = chosen
    while True:
        _approach(nearest, points, lengths, fresh)
        reach = float(nearest.max())
        if len(chosen) >= count or reach <= 0.0:
            break
        fresh = _farthest(points, lengths, nearest, count - len(chosen))
        chosen = chosen + fresh
        if progress is not None:
            progress(len(chosen), count)
    return Coreset(rows=torch.tensor(chosen), asked=count, reach=math.sqrt(reach))


def _approach(nearest: Tensor, points: Tensor, lengths: Tensor, fresh: list[int]) -> None:
    """Lower `nearest` (N,) to the squared distance from the `fresh` rows, where that is less."""
    rows = max(1, _PRODUCTS_AT_ONCE // len(fresh))
    for start in range(0, len(points), rows):
        part = slice(start, start + rows)
        found = _squared(points[part], lengths[part], points[fresh], lengths[fresh])
        torch.minimum(nearest[part], found, out=nearest[part])
    nearest[fresh] = 0.0  # of itself, whatever the rounding says


def _squared(points: Tensor, lengths: Tensor, others: Tensor, their_lengths: Tensor) -> Tensor:
    """(P, width) and (F, width) to (P,): squared distance from the nearest other, 0 if the same."""
    nearest = (their_lengths - 2.0 * (points @ others.T)).amin(dim=1) + lengths
    return torch.where(nearest <= SAME_BELOW * lengths, 0.0, nearest)


def _farthest(points: Tensor, lengths: Tensor, nearest: Tensor, most: int) -> list[int]:
    """The next of algorithm 1, one at least, for as long as candidates alone can tell."""
    bounds, rows = nearest.topk(min(_CANDIDATES + 1, len(nearest)))
    limit = float(bounds[-1]) if len(rows) > _CANDIDATES else -torch.inf
    rows = rows[:_CANDIDATES]
    candidates, own = points[rows], lengths[rows]  # (P, width), (P,)
    distances = bounds[: len(rows)].clone()
    found: list[int] = []
    while len(found) < most:
        farthest = int(distances.argmax())
        distance = float(distances[farthest])
        if distance <= 0.0 or (found and distance < limit):
            break
        found.append(int(rows[farthest]))
        one = slice(farthest, farthest + 1)
        torch.minimum(
            distances, _squared(candidates, own, candidates[one], own[one]), out=distances
        )
        distances[farthest] = 0.0
    return found
