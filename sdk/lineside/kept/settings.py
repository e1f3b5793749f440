"""Section ``[keep]`` of ``station.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class KeepSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which frames are kept for the trainer, where, and how many.

    Attributes:
        path: the folder, this station's alone; absent: none are kept.
        most: so many lie there at most.
        max_mib: and so much; then the oldest of the kind that most are of goes first.
        keep_free_mib: with less free on that disk none is written, so that verdicts have room.
        near: share of the judged parts that counts as near a limit: those whose scores lie nearest
            to the limit that decided.
        ok_share: share of all ``OK`` parts that is kept besides; the turn decides, not a dice.
        not_ok_share: likewise of ``NOT_OK`` parts.
    """

    path: Path | None = None
    most: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 2000
    max_mib: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 4096
    keep_free_mib: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 1024
    near: Annotated[float, msgspec.Meta(ge=0.0, le=0.5)] = 0.02
    ok_share: Share = 0.0
    not_ok_share: Share = 0.0
