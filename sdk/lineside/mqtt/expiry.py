"""Which waiting verdict is still of use to the line, whatever happens to the wall clock.

A verdict's expiry is written in wall clock time, because a PLC has to read it. The station itself
judges by the monotonic clock: it notes how far the two clocks are apart, and notes it anew when
the wall clock jumps, so that each verdict is judged by the distance that was in force when it was
given. Of verdicts from before the process began only the wall clock is left; one that was taken
in that clock's future shows that the clock is wrong, and counts as expired.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

# Slewing by NTP stays below this for minutes; a step goes beyond.
JUMP_MS = 250.0
# Noted jumps; of verdicts before the oldest one only the wall clock is left.
_JUMPS_KEPT = 64
# Verdicts that may be made and not yet durable, so not yet counted, when a jump is seen.
_PENDING_ROWS = 256
# Two clocks of one plant may be a little apart: a taken time so far ahead is no fault.
_AHEAD_MS = 5_000


class Clocks(msgspec.Struct, frozen=True):
    """Both clocks at one moment, milliseconds."""

    monotonic_ms: float
    unix_ms: float

    @property
    def apart_ms(self) -> float:
        """From the monotonic clock to the wall clock."""
        return self.unix_ms - self.monotonic_ms


def read_clocks() -> Clocks:
    """The machine's."""
    return Clocks(time.monotonic_ns() / 1e6, time.time_ns() / 1e6)


@dataclass(frozen=True, kw_only=True)
class _Jump:
    """From then on the clocks were ``apart_ms`` apart.

    Verdicts from ``maybe_seq`` on may have been given after it, those from ``surely_seq`` on were.
    """

    apart_ms: float
    maybe_seq: int
    surely_seq: int
    seen_ms: float


class _Taken(msgspec.Struct):
    t: int


class ExpiryClock:
    """Judges rows of one outbox; for one thread.

    Args:
        given: the last sequence number that an earlier process gave.
        clocks: both clocks of this moment.
    """

    def __init__(self, *, given: int, clocks: Callable[[], Clocks] = read_clocks) -> None:
        self._clocks = clocks
        self._seen_seq = given
        now = clocks()
        first = _Jump(
            apart_ms=now.apart_ms,
            maybe_seq=given + 1,
            surely_seq=given + 1,
            seen_ms=now.monotonic_ms,
        )
        self._jumps: deque[_Jump] = deque([first], maxlen=_JUMPS_KEPT)

    def observe(self, given: int) -> None:
        """Look at both clocks; to be called often. ``given`` is the last durable number."""
        now = self._clocks()
        if abs(now.apart_ms - self._jumps[-1].apart_ms) > JUMP_MS:
            jump = _Jump(
                apart_ms=now.apart_ms,
                maybe_seq=self._seen_seq + 1,
                surely_seq=given + 1 + _PENDING_ROWS,
                seen_ms=now.monotonic_ms,
            )
            self._jumps.append(jump)
        self._seen_seq = given

    def earliest_unix_ms(self) -> int:
        """What has expired by this time has expired by each distance that was in force."""
        now = self._clocks()
        apart_ms = min(now.apart_ms, *(jump.apart_ms for jump in self._jumps))
        return int(now.monotonic_ms + apart_ms)

    def is_live(self, seq: int, expires_unix_ms: int, payload: bytes) -> bool:
        """Whether the line can still act on it."""
        now = self._clocks()
        if seq < self._jumps[0].maybe_seq:
            return now.unix_ms < expires_unix_ms and _taken_ms(payload) < now.unix_ms + _AHEAD_MS
        return now.monotonic_ms < self._deadline_ms(seq, expires_unix_ms)

    def _deadline_ms(self, seq: int, expires_unix_ms: int) -> float:
        found = self._jumps[0]
        for jump in list(self._jumps)[1:]:
            if seq < jump.maybe_seq:
                break
            if seq >= jump.surely_seq:
                found = jump
            else:
                # Given around the jump: a part's time to live is short beside a jump that
                # matters, so the distance that puts its end nearer to that moment is the right one.
                found = min(
                    (found, jump),
                    key=lambda one, seen=jump.seen_ms: abs(  # type: ignore[misc]
                        expires_unix_ms - one.apart_ms - seen
                    ),
                )
        return expires_unix_ms - found.apart_ms


def _taken_ms(payload: bytes) -> int:
    try:
        return msgspec.json.decode(payload, type=_Taken).t
    except msgspec.DecodeError:
        return 0
