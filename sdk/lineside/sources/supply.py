"""What a triggered source draws its pictures from: a camera, or a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from lineside.sources.capture import Capture
from lineside.sources.outcome import Outcome

T = TypeVar("T")


class Supply(Protocol[T]):
    """Hands over what arrives, and makes a capture of what was matched.

    Attributes:
        identity, passed_over: as of `Source`.
        fault: why nothing comes just now.
        warn: what is not as it should be, though something comes.
        counts: what happened so far, by name.
    """

    @property
    def identity(self) -> str: ...
    @property
    def passed_over(self) -> int: ...
    @property
    def fault(self) -> str: ...
    @property
    def warn(self) -> str: ...
    @property
    def counts(self) -> dict[str, int]: ...

    def start(self, deliver: Callable[[T], None]) -> None:
        """From now on hand over what arrives, from whatever thread."""

    def look(self) -> float:
        """Look what has arrived, where that is not told by itself; seconds until the next look."""

    def develop(self, outcome: Outcome[T]) -> Capture:
        """The capture of an outcome; called by the one who takes captures, so it may take long."""

    def is_gone(self, name: bytes) -> bool:
        """As of `Source`."""

    def close(self) -> None:
        """Let go of everything."""


def without_frame(outcome: Outcome[T]) -> Capture:
    """The capture of a trigger whose frame did not come."""
    assert outcome.trigger is not None
    return Capture(
        part_id=outcome.trigger.part_id,
        product=outcome.trigger.product,
        taken_unix_ns=outcome.trigger.at_unix_ns,
        taken_ns=outcome.trigger.at_ns,
        read_us=0.0,
        fault=outcome.fault,
        trigger=outcome.trigger,
    )
