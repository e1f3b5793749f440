"""Camera: the part is on the first picture that was acquired at or after its trigger, plus a delay.

The camera runs freely, so most of its pictures show no part; the newest are kept in a small ring,
because a trigger may be heard a little after the picture that belongs to it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from lineside.sources.acquired import Acquired
from lineside.sources.outcome import Outcome, no_frame, overload
from lineside.sources.trigger import Trigger

_NEVER_NS: Final = -(2**63)


class FrameMatcher:
    """The rule; see `Matcher`. Pictures must arrive in the order of their moments.

    Args:
        delay_ns: from the trigger to the moment that the part is in place; negative where the
            trigger is heard late.
        timeout_ns: from the trigger; without a picture until then it is ``frame_missing``.
        most_waiting: triggers; beyond it is ``overload``.
        ring: pictures that are kept.
    """

    def __init__(self, *, delay_ns: int, timeout_ns: int, most_waiting: int, ring: int) -> None:
        self._delay_ns = delay_ns
        self._timeout_ns = timeout_ns
        self._most_waiting = most_waiting
        self._ring: deque[Acquired] = deque(maxlen=ring)
        self._waiting: list[Trigger] = []
        self._left_ns = _NEVER_NS  # the newest picture that the ring has let go

    @property
    def waiting(self) -> int:
        """See `Matcher`."""
        return len(self._waiting)

    @property
    def next_due_ns(self) -> int | None:
        """See `Matcher`."""
        return min((self._due_ns(trigger) for trigger in self._waiting), default=None)

    def trigger(self, trigger: Trigger) -> list[Outcome[Acquired]]:
        """See `Matcher`."""
        if self._left_ns >= trigger.at_ns + self._delay_ns:
            fault = no_frame("its frame is out of the ring; raise source.ring, or trigger.delay_ms")
            return [Outcome(trigger=trigger, fault=fault)]
        for acquired in self._ring:
            if self._belongs(acquired, trigger):
                return [Outcome(trigger=trigger, found=acquired)]
        if len(self._waiting) >= self._most_waiting:
            return [Outcome(trigger=trigger, fault=overload(self._most_waiting))]
        self._waiting.append(trigger)
        return []

    def arrived(self, found: Acquired) -> list[Outcome[Acquired]]:
        """See `Matcher`."""
        outcomes = self.tick(found.at_ns)
        if len(self._ring) == self._ring.maxlen:
            self._left_ns = self._ring[0].at_ns
        self._ring.append(found)
        for trigger in [one for one in self._waiting if self._belongs(found, one)]:
            self._waiting.remove(trigger)
            outcomes.append(Outcome(trigger=trigger, found=found))
        return outcomes

    def tick(self, now_ns: int, why: str = "") -> list[Outcome[Acquired]]:
        """See `Matcher`."""
        late = [trigger for trigger in self._waiting if self._due_ns(trigger) < now_ns]
        return self._without_frame(
            late, f"no frame within {self._timeout_ns // 1_000_000} ms of the trigger", why
        )

    def give_up(self, why: str) -> list[Outcome[Acquired]]:
        """See `Matcher`."""
        return self._without_frame(list(self._waiting), "no frame came", why)

    def _without_frame(
        self, triggers: list[Trigger], told: str, why: str
    ) -> list[Outcome[Acquired]]:
        for trigger in triggers:
            self._waiting.remove(trigger)
        return [Outcome(trigger=trigger, fault=no_frame(told, why)) for trigger in triggers]

    def _belongs(self, acquired: Acquired, trigger: Trigger) -> bool:
        return trigger.at_ns + self._delay_ns <= acquired.at_ns <= self._due_ns(trigger)

    def _due_ns(self, trigger: Trigger) -> int:
        return trigger.at_ns + self._timeout_ns
