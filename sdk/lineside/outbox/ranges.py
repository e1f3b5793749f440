"""Which sequence numbers, as merged ranges: 1,000,000 in a row cost as much as one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Run = tuple[int, int]


class Ranges:
    """A set of whole numbers, held as runs (first, last) that neither touch nor overlap."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.total = 0
        for first, last in runs:
            self.add(first, last)

    def add(self, first: int, last: int) -> int:
        """Add all from ``first`` to ``last``; returns how many of them were new."""
        left = bisect_left(self._lasts, first - 1)
        right = bisect_right(self._firsts, last + 1)
        held = sum(self._lasts[at] - self._firsts[at] + 1 for at in range(left, right))
        if left < right:
            first = min(first, self._firsts[left])
            last = max(last, self._lasts[right - 1])
        self._firsts[left:right] = [first]
        self._lasts[left:right] = [last]
        new = last - first + 1 - held
        self.total += new
        return new

    def gaps(self, first: int, last: int) -> Iterator[Run]:
        """The runs between ``first`` and ``last`` that are not in the set."""
        for held_first, held_last in self:
            if held_first > last:
                break
            if held_first > first:
                yield first, held_first - 1
            first = max(first, held_last + 1)
        if first <= last:
            yield first, last

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and self._lasts[at] >= number

    def __iter__(self) -> Iterator[Run]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._firsts)
