"""One statistic under watch: its block, its evidence, its alarm. Constant memory, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Annotated, Final, TypeVar

import msgspec
import numpy as np

from lineside.drift.evidence import (
    SIDES,
    STAKES,
    alarm_level,
    bet,
    follow,
    grow,
    make_bounds,
    most_kept,
)
from lineside.drift.reference import Name, Spread, rank
from lineside.drift.settings import DriftSettings

RECENT: Final = 127
"""Values that a recent median is of."""
MAX_PART_ID: Final = 256

# A frame is worth keeping from half of an alarm's evidence on: what led to it is looked for later.
_SUSPICIOUS: Final = 0.5
# One part in twenty of the reference lies further out, on the side that evidence points to.
_OUTER_RANK: Final = 0.95

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e300)]
T = TypeVar("T")
BySide = tuple[Amount, Amount, Amount, Amount]
_NOTHING: Final[BySide] = (0.0, 0.0, 0.0, 0.0)


class Memory(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All that a watch remembers; parts are counted from 1, 0 stands for none.

    Attributes:
        name: of the statistic.
        values: how many were added.
        filled: how many of them are in the block that is not full yet.
        block_began: its first part.
        sums: of that block, by side.
        evidence: by side.
        gains: by side, since bets last stood at their lowest.
        began: by side: the first part since then.
        raised: the part that raised the alarm.
        raised_part: its id.
        since: the part with which the drift began, as far as can be told.
        recent: the last values.
    """

    name: Name
    values: Count = 0
    filled: Count = 0
    sums: BySide = _NOTHING
    evidence: BySide = _NOTHING
    gains: BySide = _NOTHING
    began: tuple[Count, Count, Count, Count] = (0, 0, 0, 0)
    block_began: Count = 0
    raised: Count = 0
    raised_part: Annotated[str, msgspec.Meta(max_length=MAX_PART_ID)] = ""
    since: Count = 0
    recent: Annotated[tuple[float, ...], msgspec.Meta(max_length=RECENT)] = ()


class StatisticState(msgspec.Struct, frozen=True, kw_only=True):
    """Where one statistic stands; parts are counted from 1 over all that were added.

    Attributes:
        name: ``score``, ``embedding``, ``light``, ``clipping`` or ``focus``.
        alarm: raised, and not reset since.
        level: evidence now, 0 none to 1 an alarm's, on a logarithmic scale; it may fall again
            while the alarm stays.
        side: where evidence points to: ``up``, ``down``, or ``above`` or ``below`` all of the
            reference; ``""`` while there is none.
        since: the part with which the drift began, as far as can be told; 0 without an alarm.
        raised: the part that raised the alarm; 0 without one.
        raised_part: that part's id.
        recent: median of the last 127 values, in the statistic's unit; ``None`` before the first.
        usual: the reference's median.
        usual_low, usual_high: nine tenths of the reference lie between them.
        values: how many were added.
    """

    name: Name
    alarm: bool
    level: float
    side: str
    since: int
    raised: int
    raised_part: str
    recent: float | None
    usual: float
    usual_low: float
    usual_high: float
    values: int


class Watch:
    """Watches one statistic.

    Args:
        spread: its reference.
        parts: that the reference is worth.
        settings: of the station.
        values_per_false_alarm: of all statistics together.
        watched: how many statistics there are.
        memory: of a new watch, but for its name, empty.
    """

    def __init__(
        self,
        spread: Spread,
        *,
        parts: float,
        settings: DriftSettings,
        values_per_false_alarm: float,
        watched: int,
        memory: Memory,
    ) -> None:
        self._ordered = spread.ordered
        self._resolution = spread.resolution
        self._block = settings.block
        self._bounds = make_bounds(
            parts, tolerance=settings.tolerance, watched=watched, rank_error=spread.rank_error
        ).by_side
        self._alarm_level = alarm_level(
            values_per_false_alarm, block=settings.block, watched=watched
        )
        low, middle, high = np.quantile(self._ordered, (0.05, 0.5, 0.95)).tolist()
        self._usual, self._usual_low, self._usual_high = middle, low, high
        self._memory = memory
        self._recent = deque(memory.recent, RECENT)

    def add(self, value: float, *, number: int, part_id: str) -> None:
        """Take one part's value.

        Args:
            value: finite or infinite; not-a-number says nothing and is passed over.
            number: of the part, counted from 1.
            part_id: kept where this part raises the alarm.
        """
        if math.isnan(value):
            return
        memory = self._memory
        self._recent.append(value)
        memory.values += 1
        if not memory.filled:
            memory.block_began = number
        memory.filled += 1
        up, down, above, below = memory.sums
        now = self._sides(value)
        memory.sums = (up + now[0], down + now[1], above + now[2], below + now[3])
        if memory.filled == self._block:
            self._close_block()
            if not memory.raised and self._evidence() >= self._alarm_level:
                memory.raised = number
                memory.raised_part = part_id[:MAX_PART_ID]
                memory.since = memory.began[self._strongest()]

    def is_beyond(self, value: float) -> bool:
        """Whether there is suspicion, and a part with this value lies where it points to."""
        if not self._memory.raised and self._level() < _SUSPICIOUS:
            return False
        up, down, _, _ = self._sides(value)
        return (up if self._strongest() in (0, 2) else down) >= _OUTER_RANK

    def reset(self) -> None:
        """Forget evidence and alarm; what was added stays counted."""
        old = self._memory
        self._memory = Memory(name=old.name, values=old.values)

    @property
    def alarm(self) -> bool:
        """Raised, and not reset since."""
        return self._memory.raised > 0

    @property
    def state(self) -> StatisticState:
        """Where it stands."""
        memory = self._memory
        return StatisticState(
            name=memory.name,
            alarm=memory.raised > 0,
            level=self._level(),
            side=SIDES[self._strongest()] if self._evidence() > 0.0 else "",
            since=memory.since,
            raised=memory.raised,
            raised_part=memory.raised_part,
            recent=median(self._recent) if self._recent else None,
            usual=self._usual,
            usual_low=self._usual_low,
            usual_high=self._usual_high,
            values=memory.values,
        )

    @property
    def memory(self) -> Memory:
        """A copy of what it remembers."""
        return msgspec.structs.replace(self._memory, recent=tuple(self._recent))

    def _sides(self, value: float) -> BySide:
        # As the reference was sealed, so that equal values are equal.
        value = float(np.float32(value))
        ordered, slack = self._ordered, self._resolution
        up = rank(ordered, value - slack)
        down = 1.0 - (rank(ordered, value + slack) if slack else up)
        above = 1.0 if value - slack > ordered[-1] else 0.0
        below = 1.0 if value + slack < ordered[0] else 0.0
        return (up, down, above, below)

    def _close_block(self) -> None:
        memory = self._memory
        most = most_kept(self._alarm_level)
        evidence, gains, began = list(memory.evidence), list(memory.gains), list(memory.began)
        for side, (total, bound, stake) in enumerate(
            zip(memory.sums, self._bounds, STAKES, strict=True)
        ):
            worth = bet(total / self._block, bound, stake)
            if gains[side] < 1.0:
                began[side] = memory.block_began
            gains[side] = min(follow(gains[side], worth), most)
            evidence[side] = min(grow(evidence[side], worth), most)
        memory.evidence = _four(evidence)
        memory.gains = _four(gains)
        memory.began = _four(began)
        memory.sums, memory.filled = _NOTHING, 0

    def _evidence(self) -> float:
        return sum(self._memory.evidence) / len(SIDES)

    def _level(self) -> float:
        return min(1.0, math.log1p(self._evidence()) / math.log1p(self._alarm_level))

    def _strongest(self) -> int:
        evidence = self._memory.evidence
        return evidence.index(max(evidence))


def _four(values: Sequence[T]) -> tuple[T, T, T, T]:
    one, two, three, four = values
    return (one, two, three, four)
