"""What became of a trigger, or of a picture that nobody triggered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lineside.errors import FrameError
from lineside.sources.trigger import Trigger

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """One turn.

    Attributes:
        trigger: ``None`` where a picture waited in vain for one.
        found: the picture; ``None`` where the trigger waited in vain.
        fault: why it cannot be judged; always there where one of the two is not.
    """

    trigger: Trigger | None = None
    found: T | None = None
    fault: FrameError | None = None


class Matcher(Protocol[T]):
    """A rule that brings triggers and pictures together: pure, its clock is what it is told.

    Every trigger that goes in comes out in exactly one outcome.
    """

    @property
    def waiting(self) -> int:
        """Triggers without an outcome so far."""

    @property
    def next_due_ns(self) -> int | None:
        """When `tick` has something to say, monotonic; ``None`` while nothing waits."""

    def trigger(self, trigger: Trigger) -> list[Outcome[T]]:
        """A part stands there."""

    def arrived(self, found: T) -> list[Outcome[T]]:
        """A picture is there."""

    def tick(self, now_ns: int, why: str = "") -> list[Outcome[T]]:
        """Time has passed; ``why``: what is wrong with the camera just now, in words."""

    def give_up(self, why: str) -> list[Outcome[T]]:
        """No more will come: every waiting trigger gets its outcome."""


def overload(most_waiting: int) -> FrameError:
    """The fault of a trigger for which there is no room."""
    return FrameError(
        f"{most_waiting} triggers wait for their frames already (trigger.most_waiting)",
        reason="overload",
    )


def no_frame(told: str, why: str = "") -> FrameError:
    """The fault of a trigger whose frame did not come."""
    return FrameError(f"{told}: {why}" if why else told, reason="frame_missing")
