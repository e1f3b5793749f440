"""Is it a picture at all? A lens cap, a dead lamp and a hung camera give pictures too."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside.errors import FrameError

# Rows and columns that are looked at first; all are compared only where these do not differ.
_LOOK_AT: Final = 256


class PictureWatch:
    """Looks at the pictures of one camera in their order.

    Frozen: two pictures of one scene differ by the sensor's noise, so pictures that are the same to
    the last bit, ``frozen_frames`` in a row, are one picture. Compared, not hashed: it is exact,
    and where they differ it ends after a small part of the pixels.

    Args:
        frozen_frames: so many in a row; 0: not looked for.
        black_mean: below it, of 255, and
        black_spread: with a standard deviation below this it is black; a mean of 0: not looked for.
    """

    def __init__(self, *, frozen_frames: int, black_mean: float, black_spread: float) -> None:
        self.same = 0
        self._frozen_frames = frozen_frames
        self._black_mean = black_mean
        self._black_spread = black_spread
        self._before: NDArray[Any] | None = None

    @property
    def frozen(self) -> bool:
        """Whether the newest picture is frozen."""
        return 0 < self._frozen_frames <= self.same

    def judge(self, pixels: NDArray[Any], source: str) -> FrameError | None:
        """Why this picture must not be judged; ``None`` where it may.

        Args:
            pixels: (H, W) or (H, W, C) uint8; kept until the next one, not copied.
            source: for the message.
        """
        self._compare(pixels)
        if self._is_black(pixels):
            return FrameError(f"{source}: the picture is black", reason="frame_black")
        if self.frozen:
            told = f"{source}: {self.same} identical pictures in a row: it is frozen"
            return FrameError(told, reason="frame_frozen")
        return None

    def forget(self) -> None:
        """The camera was opened anew."""
        self.same, self._before = 0, None

    def _compare(self, pixels: NDArray[Any]) -> None:
        if not self._frozen_frames:
            return
        before, self._before = self._before, pixels
        same = before is not None and _are_same(before, pixels)
        self.same = self.same + 1 if same else 1

    def _is_black(self, pixels: NDArray[Any]) -> bool:
        if not self._black_mean:
            return False
        few = _few(pixels)
        return bool(few.mean() < self._black_mean and few.std() < self._black_spread)


def _few(pixels: NDArray[Any]) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    return pixels[:: max(1, height // _LOOK_AT), :: max(1, width // _LOOK_AT)]


def _are_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return np.array_equal(_few(one), _few(other)) and np.array_equal(one, other)
