"""Which scores lie near their limit, by rank among those before: no unit, no scale to set."""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict, deque
from typing import Final

from lineside.verdict import Evaluation, Verdict

WINDOW: Final = 1000
"""Judged parts that the next one is held against."""
FEWEST: Final = 100
"""Before so many were judged nothing counts as near."""
_MODELS: Final = 16


class Nearness:
    """Says of a verdict whether its score is among the nearest to the limit that decided.

    Near are those whose distance to the limit is smaller than that of all but a share of the
    ``WINDOW`` parts before (uncertainty sampling: Lewis & Gale 1994, with a rank in the place of
    a threshold). So it means the same for a probability, a temperature and a reconstruction
    error, and bounds how many are kept. Each bundle has a window of its own. Parts that the score
    does not decide are kept anyway and count for nothing here.

    Args:
        share: of the judged parts, 0..0.5; 0: none is near.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def is_near(self, verdict: Verdict) -> bool:
        """Whether it is; and the next one is held against it too."""
        decided = verdict.evaluation in (Evaluation.OK, Evaluation.NOT_OK)
        if not self._share or not decided or verdict.score is None or verdict.limit is None:
            return False
        distance = abs(verdict.score - verdict.limit)
        if not math.isfinite(distance):
            return False
        window = self._windows.setdefault(verdict.model, _Window())
        self._windows.move_to_end(verdict.model)
        if len(self._windows) > _MODELS:
            self._windows.popitem(last=False)
        near = distance < window.quantile(self._share)
        window.add(distance)
        return near


class _Window:
    """The last distances, in the order they came and sorted."""

    def __init__(self) -> None:
        self._came: deque[float] = deque()
        self._sorted: list[float] = []

    def quantile(self, share: float) -> float:
        """The distance that this share of the window is below; below all with too few."""
        count = len(self._sorted)
        return self._sorted[math.ceil(share * count)] if count >= FEWEST else -math.inf

    def add(self, distance: float) -> None:
        bisect.insort(self._sorted, distance)
        self._came.append(distance)
        if len(self._came) > WINDOW:
            gone = self._came.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, gone)]
