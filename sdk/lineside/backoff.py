"""The pause between two attempts: it doubles, until one has succeeded."""

from __future__ import annotations


class Backoff:
    """For one thread.

    Args:
        first_s, longest_s: first and longest pause, seconds.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def pause_s(self) -> float:
        """The pause of now."""
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return pause_s

    def succeeded(self) -> None:
        """Begin again with the first."""
        self._next_s = self._first_s
