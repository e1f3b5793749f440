"""What was handed over and is not yet on disk; bounded, and pure but for a clock."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from lineside.outbox.ranges import Ranges, Run
from lineside.outbox.records import Draft, Late, Note

# Not yet durable; then `put` waits. The disk here flushes in 8 ms, in which 2,000 verdicts a
# second bring 16; while it stands for 100 ms, 200.
PENDING_LIMIT: Final = 256
# Late results and notes, each; then they are refused.
ASIDE_LIMIT: Final = 256
# Acknowledgements wait this long for a verdict to share its commit, or until there are so many:
# alone, each would wear the flash as much as the verdict did. One that is lost in a crash is only
# sent again, and a PLC remembers 64 ids, of which 16 may be on their way.
ACKNOWLEDGE_DELAY_S: Final = 2.0
ACKNOWLEDGE_MOST: Final = 32


@dataclass(frozen=True, kw_only=True)
class Group:
    """What shares one commit.

    Attributes:
        since_ns: when each draft was handed over, monotonic.
        acknowledged: runs (first, last).
    """

    drafts: tuple[Draft, ...] = ()
    since_ns: tuple[int, ...] = ()
    lates: tuple[Late, ...] = ()
    notes: tuple[Note, ...] = ()
    acknowledged: tuple[Run, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.drafts or self.lates or self.notes or self.acknowledged)


class Pending:
    """Every call under the outbox's lock.

    Attributes:
        notes_taken, notes_kept: handed over ever, and of these on disk; they keep their order.
    """

    def __init__(self) -> None:
        self._drafts: deque[tuple[Draft, int]] = deque()
        self._lates: deque[Late] = deque()
        self._notes: deque[Note] = deque()
        self.notes_taken = 0
        self.notes_kept = 0
        self._acknowledged = Ranges()
        self._acknowledged_since_s = 0.0
        self._writing = False
        self._most = PENDING_LIMIT

    @property
    def is_busy(self) -> bool:
        """Something that must not be lost is not yet on disk."""
        return bool(self._writing or self._drafts or self._lates or self._notes)

    @property
    def is_empty(self) -> bool:
        """Nothing waits for a commit, acknowledgements included."""
        return not (self.is_busy or self._acknowledged)

    @property
    def is_urgent(self) -> bool:
        """It is worth a commit now."""
        if self._drafts or self._lates or self._notes:
            return True
        waited_s = time.monotonic() - self._acknowledged_since_s
        return self.makes_room or (bool(self._acknowledged) and waited_s >= ACKNOWLEDGE_DELAY_S)

    @property
    def makes_room(self) -> bool:
        """So many acknowledgements wait that deleting what they name is worth a commit."""
        return self._acknowledged.total >= ACKNOWLEDGE_MOST

    def offer_draft(self, draft: Draft, since_ns: int) -> bool:
        """Take a verdict; ``False`` where there is no room."""
        if len(self._drafts) >= PENDING_LIMIT:
            return False
        self._drafts.append((draft, since_ns))
        return True

    def offer_late(self, late: Late) -> bool:
        """Take a late result; ``False`` where there is no room."""
        if len(self._lates) >= ASIDE_LIMIT:
            return False
        self._lates.append(late)
        return True

    def offer_note(self, note: Note) -> bool:
        """Take a note; ``False`` where there is no room."""
        if len(self._notes) >= ASIDE_LIMIT:
            return False
        self._notes.append(note)
        self.notes_taken += 1
        return True

    def acknowledge(self, seq: int) -> None:
        """To be forgotten with the next commit; each number once."""
        if not self._acknowledged:
            self._acknowledged_since_s = time.monotonic()
        self._acknowledged.add(seq, seq)

    def take(self, *, everything: bool) -> Group:
        """All that is worth a commit; the group must be handed to ``done`` or ``put_back``."""
        if not (everything or self.is_urgent):
            return Group()
        drafts = [self._drafts.popleft() for _ in range(min(self._most, len(self._drafts)))]
        lates, notes = deque[Late](), deque[Note]()
        if not self._drafts:
            # A late result comes after its verdict; it must not get to the disk before it.
            lates, self._lates = self._lates, lates
            notes, self._notes = self._notes, notes
        acknowledged, self._acknowledged = self._acknowledged, Ranges()
        self._writing = bool(drafts or lates or notes)
        return Group(
            drafts=tuple(draft for draft, _ in drafts),
            since_ns=tuple(since_ns for _, since_ns in drafts),
            lates=tuple(lates),
            notes=tuple(notes),
            acknowledged=tuple(acknowledged),
        )

    def done(self) -> None:
        """The group is on disk."""
        self._writing = False
        self.notes_kept = self.notes_taken - len(self._notes)
        self._most = min(2 * self._most, PENDING_LIMIT)

    def put_back(self, group: Group, *, acknowledged: bool) -> None:
        """Keep for the next attempt, of half as many: what room there is shall be used.

        Args:
            acknowledged: but these were written.
        """
        self._most = max(len(group.drafts) // 2, 1)
        self._drafts.extendleft(reversed(list(zip(group.drafts, group.since_ns, strict=True))))
        self._lates.extendleft(reversed(group.lates))
        self._notes.extendleft(reversed(group.notes))
        if not acknowledged:
            for first, last in group.acknowledged:
                self._acknowledged.add(first, last)
        self._writing = False
