"""How an upload gets on, in one line for a terminal."""

from __future__ import annotations

import contextlib
import time
from typing import Final, TextIO

from lineside_bridge.flash_report import share_of_line
from lineside_bridge.upload import Progress

_BAR_LETTERS: Final = 24
_EVERY_S: Final = 0.2
_KIB: Final = 1024
# Before that a rate is a guess.
_SURE_S: Final = 0.5


def format_progress(progress: Progress, ceiling_bytes_per_s: float | None) -> str:
    """``[####    ]  52 %   63.9 KiB/s   99 % of the framing   0:23 left``."""
    share = progress.done_bytes / progress.size_bytes
    filled = int(share * _BAR_LETTERS)
    words = [f"[{'#' * filled}{' ' * (_BAR_LETTERS - filled)}] {share:4.0%}"]
    if progress.elapsed_s >= _SURE_S:
        rate = progress.sent_bytes / progress.elapsed_s
        words.append(f"{rate / _KIB:7.1f} KiB/s")
        share_of_framing = share_of_line(rate, ceiling_bytes_per_s)
        if share_of_framing is not None:
            words.append(f"{share_of_framing:4.0%} of the framing")
        if rate:
            words.append(f"{format_time(progress.left_bytes / rate)} left")
    return "  ".join(words)


def format_time(seconds: float) -> str:
    """``0:23``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressLine:
    """Writes it over itself; on what is no terminal it writes nothing.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO, ceiling_bytes_per_s: float | None) -> None:
        self._stream = stream
        self._ceiling_bytes_per_s = ceiling_bytes_per_s
        self._shown = stream.isatty()
        self._told_s = 0.0
        self._letters = 0

    def show(self, progress: Progress) -> None:
        """As often as people can read."""
        now_s = time.monotonic()
        done = progress.done_bytes == progress.size_bytes
        if not self._shown or (now_s - self._told_s < _EVERY_S and not done):
            return
        self._told_s = now_s
        line = format_progress(progress, self._ceiling_bytes_per_s)
        self._write("\r" + line.ljust(self._letters))
        self._letters = len(line)

    def end(self) -> None:
        """What is written next begins on a line of its own."""
        if self._letters:
            self._write("\n")
            self._letters = 0

    def _write(self, text: str) -> None:
        # A terminal that was closed is no reason to leave a sensor half done.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
