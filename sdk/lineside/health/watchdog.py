"""Whether the station still lives, for systemd's watchdog and for ``/healthz``.

A thread that hangs says nothing, so systemd hears nothing and starts the station anew; what had
reached the disk is not lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lineside.health.notify import Notifier

_PATIENCE_S: Final = 60.0


class Watchdog:
    """Speaks to systemd once all that is vital has shown that it lives, at half of its limit.

    Args:
        notifier: systemd.
        beating: names of the threads that call ``beat``, each at least every few seconds.
        alive: whether a thread that does not beat still runs, by name; must not wait.
        clock_s: monotonic, seconds.
    """

    def __init__(
        self,
        notifier: Notifier,
        *,
        beating: Sequence[str] = ("inspection",),
        alive: Mapping[str, Callable[[], bool]] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._alive = dict(alive or {})
        self._clock_s = clock_s
        self._patience_s = notifier.watchdog_s or _PATIENCE_S
        self._lock = threading.Lock()
        started_s = clock_s()
        self._last_s = dict.fromkeys(beating, started_s)
        self._waiting = set(beating)
        self._sent_s = started_s

    def beat(self, name: str = "inspection") -> None:
        """This thread lives. Cheap, and never waits for systemd.

        Raises:
            KeyError: a name that was not given at the start, or has retired: a hung thread would
                hide behind it.
        """
        with self._lock:
            now_s = self._clock_s()
            if name not in self._last_s:
                raise KeyError(name)
            self._last_s[name] = now_s
            self._waiting.discard(name)
            if not self._is_due(now_s) or self._dead():
                return
            if self._notifier.alive():
                self._sent_s = now_s
                self._waiting = set(self._last_s)

    def retire(self, name: str) -> None:
        """This thread has ended as it should, e.g. the source after its last frame."""
        with self._lock:
            self._last_s.pop(name, None)
            self._waiting.discard(name)

    def trouble(self) -> str:
        """What is dead or silent for longer than the limit, in words; ``""`` when all live."""
        now_s = self._clock_s()
        with self._lock:
            beats = dict(self._last_s)
        silent = [
            f"{name} is silent for {now_s - last_s:.0f} s"
            for name, last_s in beats.items()
            if now_s - last_s > self._patience_s
        ]
        return "; ".join([*silent, *(f"{name} has ended" for name in self._dead())])

    def _is_due(self, now_s: float) -> bool:
        limit_s = self._notifier.watchdog_s
        # sd_watchdog_enabled(3) asks for every half of the limit.
        return limit_s is not None and not self._waiting and now_s - self._sent_s >= limit_s / 2

    def _dead(self) -> list[str]:
        return [name for name, lives in self._alive.items() if not lives()]
