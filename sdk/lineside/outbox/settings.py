"""Section ``[outbox]`` of a station's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where verdicts wait for the broker, and how much of what made them is kept.

    Attributes:
        path: the SQLite file; beside it lie its ``-wal``, ``-shm`` and ``.lock``.
        max_mib: the file grows no further; a full outbox is the fault ``disk``, never a loss.
        journal_days: rows of the journal go when they are older.
        journal_max_mib: and when the journal is larger, the oldest first.
        keep_free_mib: with less free on the disk the station is pressed: it says ``disk``, frees
            kept frames and pictures, then rows of the journal; waiting verdicts may use what is
            left.
    """

    path: Path = Path("outbox.sqlite")
    max_mib: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 1024
    journal_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 30
    journal_max_mib: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 256
    keep_free_mib: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 256
