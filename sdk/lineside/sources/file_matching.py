"""Folder: the part is on the file that has its id, or on the next one.

The camera's own software writes one file a part; trigger and file may come in either order. Each
waits for the other, so long and no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lineside.errors import FrameError
from lineside.sources.outcome import Outcome, no_frame, overload
from lineside.sources.trigger import Trigger


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A complete file.

    Attributes:
        name: within the folder.
        part_id: what its name says, ``""`` where it says nothing.
        at_unix_ns: when it was seen to be complete, wall clock.
        at_ns: the same moment on the monotonic clock.
        old: it lay there when the station started: no ``next`` one of any trigger.
    """

    name: str
    part_id: str
    at_unix_ns: int
    at_ns: int
    old: bool = False


class FileMatcher:
    """The rule; see `Matcher`. A file may come late until `tick` says that the time is over.

    Args:
        match: ``part``: the file's part id is the trigger's; ``next``: in the order of arrival.
        frame_timeout_ns: a trigger waits so long for its file, then it is ``frame_missing``.
        part_timeout_ns: a file waits so long for its trigger, then it is ``part_missing``.
        most_waiting: triggers; beyond it is ``overload``.
    """

    def __init__(
        self,
        *,
        match: Literal["part", "next"],
        frame_timeout_ns: int,
        part_timeout_ns: int,
        most_waiting: int,
    ) -> None:
        self._match = match
        self._frame_timeout_ns = frame_timeout_ns
        self._part_timeout_ns = part_timeout_ns
        self._most_waiting = most_waiting
        self._triggers: list[Trigger] = []
        self._files: dict[str, Arrival] = {}

    @property
    def waiting(self) -> int:
        """See `Matcher`."""
        return len(self._triggers)

    @property
    def next_due_ns(self) -> int | None:
        """See `Matcher`."""
        dues = [trigger.at_ns + self._frame_timeout_ns for trigger in self._triggers]
        # Files arrive in order, so the first is due first.
        dues += [file.at_ns + self._part_timeout_ns for file in list(self._files.values())[:1]]
        return min(dues, default=None)

    def trigger(self, trigger: Trigger) -> list[Outcome[Arrival]]:
        """See `Matcher`."""
        if self._match == "part" and not trigger.part_id:
            told = 'the trigger names no part, and trigger.match = "part" needs one'
            return [Outcome(trigger=trigger, fault=FrameError(told, reason="part_missing"))]
        for file in self._files.values():
            if self._belong(trigger, file):
                del self._files[file.name]
                return [Outcome(trigger=trigger, found=file)]
        if len(self._triggers) >= self._most_waiting:
            return [Outcome(trigger=trigger, fault=overload(self._most_waiting))]
        self._triggers.append(trigger)
        return []

    def arrived(self, found: Arrival) -> list[Outcome[Arrival]]:
        """See `Matcher`; a file that waits already is not taken twice."""
        if found.name in self._files:
            return []
        if found.old and self._match == "next":
            return [self._without_part(found, "it lay there before the station started")]
        for trigger in self._triggers:
            if self._belong(trigger, found):
                self._triggers.remove(trigger)
                return [Outcome(trigger=trigger, found=found)]
        self._files[found.name] = found
        return []

    def tick(self, now_ns: int, why: str = "") -> list[Outcome[Arrival]]:
        """See `Matcher`."""
        late = [one for one in self._triggers if one.at_ns + self._frame_timeout_ns < now_ns]
        told = f"no file within {self._frame_timeout_ns // 1_000_000} ms of the trigger"
        outcomes = self._without_frame(late, told, why)
        for file in list(self._files.values()):
            if file.at_ns + self._part_timeout_ns >= now_ns:
                break
            del self._files[file.name]
            told = f"no trigger within {self._part_timeout_ns // 1_000_000} ms"
            outcomes.append(self._without_part(file, told))
        return outcomes

    def give_up(self, why: str) -> list[Outcome[Arrival]]:
        """See `Matcher`; files stay as they are, for the next start."""
        return self._without_frame(list(self._triggers), "no file came", why)

    def _without_frame(
        self, triggers: list[Trigger], told: str, why: str
    ) -> list[Outcome[Arrival]]:
        for trigger in triggers:
            self._triggers.remove(trigger)
        return [Outcome(trigger=trigger, fault=no_frame(told, why)) for trigger in triggers]

    def _without_part(self, file: Arrival, told: str) -> Outcome[Arrival]:
        return Outcome(found=file, fault=FrameError(f"{file.name}: {told}", reason="part_missing"))

    def _belong(self, trigger: Trigger, file: Arrival) -> bool:
        return self._match == "next" or trigger.part_id == file.part_id
