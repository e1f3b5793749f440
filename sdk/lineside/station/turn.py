"""One part's turn: it begins when a part is announced and ends with exactly one verdict."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import numpy as np

from lineside.sources import Capture
from lineside.station.products import Product


class Turn:
    """Several threads may want to end it (inspection, deadline, backlog); the first one does.

    Attributes:
        id: 16 hex digits; journal, late result and kept frame carry it.
        capture: what is to be judged; of a part that was triggered, once its picture is there.
        product: what judges it, as it was when the turn began; ``None``: there is no bundle for it.
        deadline_ms: from the moment at which the turn began; ``None``: no limit.
        deadline_ns: the same on the monotonic clock.

    Args:
        capture, product, deadline_ms: see there.
    """

    def __init__(
        self, capture: Capture, product: Product | None, *, deadline_ms: float | None = None
    ) -> None:
        self.id = os.urandom(8).hex()
        self.capture = capture
        self.product = product
        self.deadline_ms = deadline_ms
        limit_ns = None if deadline_ms is None else round(deadline_ms * 1e6)
        self.deadline_ns = None if limit_ns is None else capture.taken_ns + limit_ns
        self._lock = threading.Lock()
        self._ended = False
        self._digesting = threading.Lock()  # its own: a deadline must not wait for it
        self._digest: str | None = None

    @property
    def is_over(self) -> bool:
        """Its deadline has passed."""
        return self.deadline_ns is not None and time.monotonic_ns() >= self.deadline_ns

    @property
    def comes_again(self) -> bool:
        """Without a verdict it is judged at the next start: a file, which no trigger asked for."""
        return self.capture.key is not None and self.capture.trigger is None

    @property
    def ended(self) -> bool:
        """Somebody has claimed it."""
        return self._ended

    def claim(self) -> bool:
        """Whether the caller is the one who gives the verdict: true once."""
        with self._lock:
            first, self._ended = not self._ended, True
        return first

    def frame_sha256(self) -> str:
        """Of shape, type and pixels, 64 hex digits; ``""`` without a frame.

        20 megapixels take some 10 ms, so the source's thread asks first, beside the inspection.
        """
        frame = self.capture.frame
        if frame is None:
            return ""
        with self._digesting:
            if self._digest is None:
                pixels = frame.pixels_hwc
                head = f"{pixels.shape} {pixels.dtype.str} "
                found = hashlib.sha256(head.encode("ascii"))
                found.update(np.ascontiguousarray(pixels).data)
                self._digest = found.hexdigest()
            return self._digest
