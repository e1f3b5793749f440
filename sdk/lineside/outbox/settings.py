"""Section ``[outbox]`` of a station's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where verdicts wait for the broker.

    Attributes:
        path: the SQLite file; beside it lie its ``-wal``, ``-shm`` and ``.lock``.
        max_mib: the file grows no further; a full outbox is the fault ``disk``, never a loss.
    """

    path: Path = Path("outbox.sqlite")
    max_mib: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 1024
