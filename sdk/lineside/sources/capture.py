"""What every source gives: a frame, or why there is none, and how to know it again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lineside.errors import FrameError
from lineside.frame import Frame
from lineside.framekey import FrameKey
from lineside.sources.trigger import Trigger


@dataclass(frozen=True, kw_only=True)
class Capture:
    """One part's turn: exactly one of ``frame`` and ``fault`` is there.

    Attributes:
        part_id: the physical part, ``""`` where unknown.
        taken_unix_ns: when its turn began, wall clock: the trigger came, or, where nothing
            triggers, the station took the frame. Deadline and latency count from here.
        taken_ns: the same moment on the monotonic clock.
        read_us: reading and decoding, microseconds.
        key: for the memory; ``None`` where a frame cannot come again.
        product: which bundle judges it, as the trigger said; ``""``: the one that is in use.
        trigger: who waits for its verdict; such a part cannot come again, though its file may.
            ``None`` where nobody triggered.
    """

    part_id: str
    taken_unix_ns: int
    taken_ns: int
    read_us: float
    frame: Frame | None = None
    fault: FrameError | None = None
    key: FrameKey | None = None
    product: str = ""
    trigger: Trigger | None = None


class Memory(Protocol):
    """What was inspected in earlier lives of the station; may raise ``StorageError``."""

    def recall(self, source: str, name: bytes) -> FrameKey | None: ...


class Source(Protocol):
    """Gives captures until it has no more, or until told to stop.

    Attributes:
        identity: the ``source`` of its frames' keys.
        fault: why nothing comes just now (a camera unplugged, a share gone), ``""`` when all is
            well. Read from another thread, as the next three.
        warn: what is not as it should be, though frames come, ``""`` when all is.
        passed_over: frames that were left out because they had been inspected before.
        counts: what happened so far, by name: parts without frame, reconnects, …
        can_wait: whether nothing is lost when nobody asks for the next frame for a while.
    """

    @property
    def identity(self) -> str: ...
    @property
    def fault(self) -> str: ...
    @property
    def warn(self) -> str: ...
    @property
    def passed_over(self) -> int: ...
    @property
    def can_wait(self) -> bool: ...
    @property
    def counts(self) -> dict[str, int]: ...

    def captures(self, stopping: threading.Event) -> Iterator[Capture | None]:
        """``None`` while nothing comes, at least once a second: the loop has other duties.

        What can wait is read when it is asked for; a camera cannot. Once only.
        """

    def offer(self, trigger: Trigger) -> bool:
        """A part stands there, says somebody: from any thread, at once.

        ``True``: exactly one capture will come of it. ``False``: it is refused, because nothing
        takes triggers here, too many wait, or the source is closed.
        """

    def when_accepted(self, call: Callable[[Trigger], None]) -> None:
        """Have ``call`` called with each trigger that is taken, before its capture comes.

        In whichever thread triggers; it must be quick. Asked for before `captures`.
        """

    def is_gone(self, name: bytes) -> bool:
        """Whether a frame of that name cannot come again, so that it need not be remembered."""

    def close(self) -> None:
        """Let go of devices; from any thread, also after `captures` has ended."""
