"""Parts that wait for the inspection: few, and what gives way is named."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from lineside.station.turn import Turn

Policy = Literal["newest", "oldest", "block"]
"""Who stays when more come than can be inspected: ``newest`` lets the one go that waits longest,
``oldest`` the one that comes, ``block`` takes no further frame until there is room."""


class Backlog:
    """Between the source's thread and the inspection's. What gives way is the caller's to end.

    Attributes:
        gave_way: parts that were not inspected because others were waiting.
        waited: how often the source had to wait for room.

    Args:
        room: so many wait at most.
        policy: see `Policy`.
    """

    def __init__(self, room: int, policy: Policy) -> None:
        self.gave_way = 0
        self.waited = 0
        self._room = room
        self._policy = policy
        self._turns: deque[Turn] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def closed(self) -> bool:
        """Nothing more comes; what waits may still be taken."""
        return self._closed

    def wait_for_room(
        self, stopping: threading.Event, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Before the next frame is taken: with ``block`` wait until it will fit.

        Args:
            stopping: ends the wait.
            meanwhile: called a few times a second while it lasts.
        """
        if self._policy != "block":
            return
        with self._changed:
            self.waited += len(self._turns) >= self._room
            while len(self._turns) >= self._room and not stopping.is_set():
                self._changed.wait(0.2)
                meanwhile()

    def put(self, turn: Turn) -> Turn | None:
        """Let it wait; returns the part that gave way, itself or another. Never waits."""
        with self._changed:
            given_way: Turn | None = None
            if len(self._turns) >= self._room and self._policy != "block":
                if self._policy == "oldest":
                    self.gave_way += 1
                    return turn
                given_way = self._turns.popleft()
                self.gave_way += 1
            self._turns.append(turn)
            self._changed.notify_all()
        return given_way

    def take(self, timeout_s: float) -> Turn | None:
        """The one that waits longest; ``None`` when none came in time, or none will."""
        with self._changed:
            if not self._turns and not self._closed:
                self._changed.wait(timeout_s)
            turn = self._turns.popleft() if self._turns else None
            self._changed.notify_all()
        return turn

    def close(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
