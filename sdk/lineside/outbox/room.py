"""How much more can be written, and when that is so little that the line must hear of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIB: Final = 2**20
# Pressed below a tenth of what the file may take, or below this; released half as much higher, so
# that the state does not flicker.
_LOW_SHARE: Final = 0.1
_LOW_MOST_BYTES: Final = 64 * _MIB
_RELEASED: Final = 1.5
# The state is published at once when it changes; with the broker away it cannot be told, and the
# verdicts' room matters more.
TELL_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one outbox and its disk have left.

    Attributes:
        spare_bytes: in the file, free to be written again.
        growth_bytes: what the file may still grow: within its limit, and within the disk's free
            space less what is to be kept free.
        low_bytes: with less than this in all the outbox is pressed.
    """

    spare_bytes: int
    growth_bytes: int
    low_bytes: int

    @property
    def left_bytes(self) -> int:
        """What can be written before the limit."""
        return self.spare_bytes + self.growth_bytes


def look_at_room(
    path: Path, *, file_bytes: int, spare_bytes: int, max_mib: int, keep_free_mib: int
) -> Room:
    """Ask the disk; one that does not answer counts as without room."""
    try:
        free_bytes = shutil.disk_usage(path.parent).free
    except OSError:
        free_bytes = 0
    return Room(
        spare_bytes=spare_bytes,
        growth_bytes=max(0, min(max_mib * _MIB - file_bytes, free_bytes - keep_free_mib * _MIB)),
        low_bytes=int(min(max_mib * _MIB * _LOW_SHARE, _LOW_MOST_BYTES)),
    )


class PressureGauge:
    """Whether the outbox is pressed, and since when; pure, the clock is given."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    @property
    def is_pressed(self) -> bool:
        """The line is to hear ``disk``."""
        return self._since_s is not None

    def look(self, room: Room, now_s: float) -> None:
        """Take a new measurement; ``now_s`` from a monotonic clock."""
        if room.left_bytes < room.low_bytes:
            if self._since_s is None:
                self._since_s = now_s
        elif room.left_bytes >= _RELEASED * room.low_bytes:
            self._since_s = None

    def may_drop(self, now_s: float) -> bool:
        """Pressed for long enough that the line has heard of it and kept frames could go."""
        return self._since_s is not None and now_s - self._since_s >= TELL_S
