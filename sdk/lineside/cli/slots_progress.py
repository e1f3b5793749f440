"""What `slots install` shows meanwhile on a terminal: bytes, then that the self-test goes on."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import click

_TICK_S: Final = 1.0


class _Shown:
    """One line, written over and over."""

    def __init__(self) -> None:
        self._proving = threading.Thread(target=self._tick, name="lineside-ticks", daemon=True)
        self._over = threading.Event()
        self._copied = ""

    def __call__(self, done_bytes: int, size_bytes: int) -> None:
        self._copied = f"copied {done_bytes / 1e6:.1f} of {size_bytes / 1e6:.1f} MB"
        _write(f"\r{self._copied}")
        if done_bytes >= size_bytes and not self._proving.is_alive():
            self._proving.start()

    def end(self) -> None:
        """What comes next stands on a line of its own."""
        self._over.set()
        if self._proving.is_alive():
            self._proving.join()
        if self._copied:
            _write("\n")

    def _tick(self) -> None:
        """A self-test may take two minutes, and who waits must not take it for a hang."""
        since_s = time.monotonic()
        while True:
            _write(f"\r{self._copied}, proving it: {time.monotonic() - since_s:.0f} s")
            if self._over.wait(_TICK_S):
                return


@contextlib.contextmanager
def showing_install() -> Iterator[Callable[[int, int], None]]:
    """Where somebody watches; else nothing is said."""
    if not sys.stderr.isatty():
        yield lambda _done_bytes, _size_bytes: None
        return
    shown = _Shown()
    try:
        yield shown
    finally:
        shown.end()


def _write(words: str) -> None:
    click.echo(words, err=True, nl=False)
