"""Trigger → frame → part id: a source in which somebody says when a part is there.

Triggers come from any thread, pictures from another; both go into a pure rule at once, so that
whoever takes the captures may be slow. What came out of the rule waits here in order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from lineside.sources.capture import Capture
from lineside.sources.outcome import Matcher, Outcome
from lineside.sources.supply import Supply
from lineside.sources.trigger import Offer, Trigger

T = TypeVar("T")

_LONGEST_WAIT_S: Final = 0.2


class TriggerFeed(Protocol):
    """Triggers of the station's own: a serial port, the clock.

    Attributes:
        fault: why none come just now, ``""`` when all is well.
        warn: what is not as it should be, though some come.
        counts: what happened so far, by name.
    """

    @property
    def fault(self) -> str: ...
    @property
    def warn(self) -> str: ...
    @property
    def counts(self) -> dict[str, int]: ...

    def start(self, offer: Offer) -> None:
        """From now on offer triggers, in a thread of its own."""

    def close(self) -> None:
        """Offer no more."""


class TriggeredSource(Generic[T]):
    """A `Source`: for every trigger that `offer` has taken, exactly one capture.

    Args:
        supply: where pictures come from.
        matcher: the rule that brings both together.
        feed: who triggers; ``None``: whoever calls `offer`.
        most_waiting: so many results may wait to be taken; then triggers are refused.
    """

    def __init__(
        self,
        supply: Supply[T],
        matcher: Matcher[T],
        *,
        feed: TriggerFeed | None = None,
        most_waiting: int,
    ) -> None:
        self._supply = supply
        self._matcher = matcher
        self._feed = feed
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._results: deque[Outcome[T]] = deque()
        # As many as the folder has files; a camera's pictures need no part.
        self._orphans: deque[Outcome[T]] = deque()
        self._closed = False
        self._accepted: Callable[[Trigger], None] = lambda _: None
        self._tally = dict.fromkeys(
            ("triggers", "triggers_refused", "parts_without_frame", "frames_without_part"), 0
        )

    @property
    def identity(self) -> str:
        """See `Source`."""
        return self._supply.identity

    @property
    def can_wait(self) -> bool:
        """See `Source`."""
        return False

    @property
    def passed_over(self) -> int:
        """See `Source`."""
        return self._supply.passed_over

    @property
    def fault(self) -> str:
        """See `Source`."""
        feed = "" if self._feed is None else self._feed.fault
        return "; ".join(words for words in (self._supply.fault, feed) if words)

    @property
    def warn(self) -> str:
        """See `Source`."""
        feed = "" if self._feed is None else self._feed.warn
        return "; ".join(words for words in (self._supply.warn, feed) if words)

    @property
    def counts(self) -> dict[str, int]:
        """See `Source`."""
        feed = {} if self._feed is None else self._feed.counts
        return {**self._tally, **self._supply.counts, **feed}

    def is_gone(self, name: bytes) -> bool:
        """See `Source`."""
        return self._supply.is_gone(name)

    def offer(self, trigger: Trigger) -> bool:
        """See `Source`; ``False`` too where the clock or a serial port triggers."""
        return self._feed is None and self._accept(trigger)

    def when_accepted(self, call: Callable[[Trigger], None]) -> None:
        """See `Source`."""
        self._accepted = call

    def captures(self, stopping: threading.Event) -> Iterator[Capture | None]:
        """See `Source`; once told to stop, triggers that wait still get their captures."""
        self._supply.start(self._arrived)
        if self._feed is not None:
            self._feed.start(self._accept)
        while not stopping.is_set():
            outcome = self._wait(min(self._supply.look(), _LONGEST_WAIT_S))
            yield None if outcome is None else self._supply.develop(outcome)
        for outcome in self._give_up():
            yield self._supply.develop(outcome)

    def close(self) -> None:
        """See `Source`."""
        with self._changed:
            self._closed = True
        if self._feed is not None:
            self._feed.close()
        self._supply.close()

    def _accept(self, trigger: Trigger) -> bool:
        with self._changed:
            if self._closed or len(self._results) >= self._most_waiting:
                self._tally["triggers_refused"] += 1
                return False
            self._tally["triggers"] += 1
            self._accepted(trigger)
            self._sort(self._matcher.trigger(trigger))
            return True

    def _arrived(self, found: T) -> None:
        with self._changed:
            self._sort(self._matcher.arrived(found))

    def _wait(self, longest_s: float) -> Outcome[T] | None:
        with self._changed:
            self._tick()
            if not self._results and not self._orphans:
                self._changed.wait(min(longest_s, self._until_due_s()))
                self._tick()
            if self._results:
                return self._results.popleft()
            return self._orphans.popleft() if self._orphans else None

    def _tick(self) -> None:
        self._sort(self._matcher.tick(time.monotonic_ns(), self.fault))

    def _until_due_s(self) -> float:
        due_ns = self._matcher.next_due_ns
        if due_ns is None:
            return _LONGEST_WAIT_S
        # One more microsecond: it is due when the moment is over.
        return max(0.0, (due_ns - time.monotonic_ns()) / 1e9 + 1e-6)

    def _give_up(self) -> list[Outcome[T]]:
        with self._changed:
            self._closed = True
            self._sort(self._matcher.give_up("the station stops"))
            last = list(self._results)
            self._results.clear()
            return last

    def _sort(self, outcomes: list[Outcome[T]]) -> None:
        for outcome in outcomes:
            if outcome.trigger is None:
                self._tally["frames_without_part"] += 1
                self._orphans.append(outcome)
            else:
                self._tally["parts_without_frame"] += outcome.found is None
                self._results.append(outcome)
        if outcomes:
            self._changed.notify()
