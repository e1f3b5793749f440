"""How far a trial is, beside the store's record: a restart goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from lineside.durable import write_durably
from lineside.plainfile import read_whole
from lineside.station.trial import TrialProgress

TRIAL_FILE: Final = "trial.json"
_LIMIT_BYTES: Final = 4096


class TrialFile:
    """``trial.json`` of a store. What cannot be read begins anew: the trial only lasts longer.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / TRIAL_FILE

    def begin(self, bundle: str) -> TrialProgress:
        """A trial begins; what an earlier one of the same bundle has counted is forgotten.

        Raises:
            StorageError: it cannot be written, so the trial must not begin.
        """
        progress = TrialProgress(bundle=bundle, since_unix_ms=time.time_ns() // 1_000_000)
        self.save(progress)
        return progress

    def load(self, bundle: str) -> TrialProgress:
        """Of the bundle that is on trial, 64 hex digits."""
        try:
            data = read_whole(self._path, limit_bytes=_LIMIT_BYTES)
            found = msgspec.json.decode(data, type=TrialProgress)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = TrialProgress(bundle="")
        if found.bundle == bundle and _is_possible(found):
            return found
        return TrialProgress(bundle=bundle, since_unix_ms=time.time_ns() // 1_000_000)

    def save(self, progress: TrialProgress) -> None:
        """Durable at return.

        Raises:
            StorageError: the disk is full or read-only; what was there is there still.
        """
        write_durably(self._path, [msgspec.json.encode(progress)])


def _is_possible(found: TrialProgress) -> bool:
    """A file that somebody wrote by hand must not confirm a bundle that has judged nothing.

    More may be compared than count as parts: of a model that gives no score only the bundle before
    knows better, and these disagreements are the last to be forgotten.
    """
    counts = (found.parts, found.disagreements, found.late, found.ran_s)
    return min(counts) >= 0 and found.disagreements <= found.compared
