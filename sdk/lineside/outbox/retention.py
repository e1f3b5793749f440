"""What goes when: the journal's oldest rows by age and size, and, with no room left, sooner.

Waiting verdicts never go. The rest goes in small batches, at most twice as fast as rows come in,
so that a clock that jumps years ahead for an hour costs hours of the journal, not all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from lineside.outbox.room import PressureGauge
from lineside.outbox.settings import OutboxSettings
from lineside.outbox.upkeep import Upkeep
from lineside.verdict import Reason

# Rows of the journal that come in before old ones go: one more commit in so many.
_BATCH: Final = 256
_IDLE_EVERY_S: Final = 3600.0
_LOOK_EVERY_S: Final = 1.0
# Dispositions are a person's work and small: the size of the journal does not end them, this does.
_NOTES_MOST: Final = 100_000
_ALL_TIMES: Final = 2**62


class Keeper:
    """Called by the outbox's thread after each commit and once a second.

    Attributes:
        on_pressed: called while there is pressure.
    """

    def __init__(self, settings: OutboxSettings, upkeep: Upkeep, journal_bytes: int) -> None:
        self.on_pressed: Callable[[], None] = lambda: None
        self._settings = settings
        self._upkeep = upkeep
        self._journal_bytes = journal_bytes
        self._gauge = PressureGauge()
        self._new_rows = 0
        self._tidy_at_s = 0.0
        self._look_at_s = 0.0

    @property
    def pressure(self) -> str:
        """``disk`` or ``""``."""
        return Reason.DISK.value if self._gauge.is_pressed else ""

    def tend(self, now_s: float, new_rows: int) -> bool:
        """Drop what has had its time, and, pressed for long enough, more.

        Args:
            now_s: of a monotonic clock.
            new_rows: of the journal, since the last call.

        Returns:
            Whether there is more room because of pressure: what did not fit may fit now.
        """
        self._new_rows += new_rows
        if self._new_rows >= _BATCH or now_s >= self._tidy_at_s:
            self._tidy(now_s)
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_EVERY_S
            return self._look(now_s)
        return False

    def _tidy(self, now_s: float) -> None:
        before_unix_ms = time.time_ns() // 1_000_000 - self._settings.journal_days * 86_400_000
        self._journal_bytes = self._upkeep.drop_journal(
            max(2 * self._new_rows, _BATCH),
            before_unix_ms=before_unix_ms,
            max_bytes=self._settings.journal_max_mib * 2**20,
        )
        self._upkeep.drop_notes(_BATCH, before_unix_ms=before_unix_ms, most=_NOTES_MOST)
        self._new_rows = 0
        self._tidy_at_s = now_s + _IDLE_EVERY_S

    def _look(self, now_s: float) -> bool:
        room = self._upkeep.room(self._settings.max_mib, self._settings.keep_free_mib)
        self._gauge.look(room, now_s)
        if not self._gauge.is_pressed:
            return False
        self.on_pressed()
        if not self._gauge.may_drop(now_s) or self._journal_bytes <= 0:
            return False
        self._journal_bytes = self._upkeep.drop_journal(
            4 * _BATCH, before_unix_ms=_ALL_TIMES, max_bytes=-1
        )
        self._look_at_s = now_s  # and again after the next commit
        return True
