"""What is under way of an upload: how much at a time, what has arrived, when to go back. Pure.

The server's offset is the only truth: past what we believed (an answer was lost), before it (a
request was, or the sensor started anew), all the same. What is too much for the line is found by
trying: more at a time while it goes well, less and smaller when it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lineside_bridge.link import wire_s

SMALLEST_ROOM_BYTES: Final = 128
# How often a sensor may have less than before.
SETBACKS_LIMIT: Final = 5

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 8.0
_LEAST_WAIT_S: Final = 0.1
# The first request has a slot erased, 20 s and more of slow flash; MCUboot erases it again for each
# repetition, so these are few.
_OPENING_WAIT_S: Final = 8.0
_LONGEST_OPENING_S: Final = 16.0
_OPENINGS_IN_A_ROW: Final = 5
# The first erases a slot, the last has all of it verified.
_EDGE_PATIENCE_S: Final = 60.0
_PATIENCE_S: Final = 15.0
_LOSSES_IN_A_ROW: Final = 8
# Below this share of what is sent a line is not worth going on with.
_LOSSES_FREE: Final = 30
_LOSSES_EACH: Final = 4
# Less and smaller at a time from one loss in ten requests on; a single one changes nothing.
_STRIKES: Final = 2.0
_FORGIVEN: Final = 0.1
_CALM_AT_FIRST: Final = 4
_CALM: Final = 16


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request under way.

    Attributes:
        at_s: when it was handed over.
        extra_s: what the sensor may need besides, e.g. to copy.
    """

    off: int
    size_bytes: int
    wire_bytes: int
    at_s: float
    extra_s: float = 0.0


class Flight:
    """The books of one upload.

    Args:
        size_bytes: of the whole.
        room_bytes: for a message at most.
        window: requests at a time at most.
        baud: of the line; 0: it has none.
        now_s: of now.

    Attributes:
        acked: the server's offset.
        next_off: where the next request begins.
        window, room_bytes: of now.
        losses: requests without use.
        arrived: requests of use.
        setbacks: how often the server had less than before.
    """

    def __init__(
        self, *, size_bytes: int, room_bytes: int, window: int, baud: int, now_s: float
    ) -> None:
        self.acked = 0
        self.next_off = 0
        self.window = 1
        self.room_bytes = room_bytes
        self.losses = 0
        self.setbacks = 0
        self.arrived = 0
        self._size_bytes = size_bytes
        self._most_bytes = room_bytes
        self._most = window
        self._fewest = 1
        self._baud = baud
        self._under_way: dict[int, Sent] = {}
        self._openings: dict[int, Sent] = {}
        self._progress_s = now_s
        self._in_a_row = 0
        self._calm = 0
        self._strikes = 0.0
        self._mean_s: float | None = None
        self._deviation_s = 0.0

    @property
    def done(self) -> bool:
        """The server has all."""
        return self.acked == self._size_bytes

    @property
    def sequences(self) -> tuple[int, ...]:
        """Of the requests under way, and of those that should have opened the upload before."""
        return (*self._under_way, *self._openings)

    @property
    def wants(self) -> bool:
        """Whether another request should go out. The first goes alone: it opens the upload."""
        if self.next_off >= self._size_bytes:
            return False
        return len(self._under_way) < (self.window if self.acked else 1)

    @property
    def until_s(self) -> float:
        """When to give the oldest request up."""
        oldest = next(iter(self._under_way.values()), None)
        if oldest is None:
            return 0.0
        waiting_bytes = sum(sent.wire_bytes for sent in self._under_way.values())
        extra_s = sum(sent.extra_s for sent in self._under_way.values())
        usual_s, longest_s = self._usual_s, _LONGEST_WAIT_S
        if not self.acked:
            usual_s, longest_s = _OPENING_WAIT_S, _LONGEST_OPENING_S
        wait_s = min(longest_s, usual_s * (1 << min(self._in_a_row, 6)))
        return oldest.at_s + wait_s + extra_s + wire_s(waiting_bytes, self._baud)

    def send(self, sequence: int, sent: Sent) -> None:
        """A request has gone out."""
        self._under_way[sequence] = sent
        self.next_off = sent.off + sent.size_bytes

    def answer(self, sequence: int, off: int, now_s: float) -> None:
        """The server said where to go on."""
        sent = (self._under_way if sequence in self._under_way else self._openings).pop(sequence)
        if sent.off:
            self._learn(max(0.0, now_s - sent.at_s - sent.extra_s))
        self._openings.clear()
        if off >= sent.off + sent.size_bytes:
            self._arrive(off, now_s)
            return
        if sent.off < off and self.acked < off:
            # MCUboot writes whole words of its flash alone, and asks for the rest of a request
            # again: nothing is wrong with the line.
            self._under_way.clear()
            self._arrive(off, now_s)
            self.next_off = off
            return
        if off < self.acked:
            self.setbacks += 1
        elif off > self.acked:
            self._progress_s = now_s
        self._go_back(off)

    def lose(self) -> None:
        """Nothing came in time, or a no that may be the line's fault."""
        if not self.acked:
            self._openings.update(self._under_way)
        self._go_back(self.acked)

    def tired(self, now_s: float) -> bool:
        """Whether to give up."""
        edge = not self.acked or self.next_off >= self._size_bytes
        patience_s = _EDGE_PATIENCE_S if edge else _PATIENCE_S
        most_in_a_row = _LOSSES_IN_A_ROW if self.acked else _OPENINGS_IN_A_ROW
        stuck = self._in_a_row >= most_in_a_row and now_s - self._progress_s >= patience_s
        hopeless = self.losses > _LOSSES_FREE + _LOSSES_EACH * self.arrived
        return stuck or hopeless or self.setbacks > SETBACKS_LIMIT

    @property
    def _usual_s(self) -> float:
        if self._mean_s is None:
            return _FIRST_WAIT_S
        return max(2 * self._mean_s, self._mean_s + 4 * self._deviation_s, _LEAST_WAIT_S)

    def _arrive(self, off: int, now_s: float) -> None:
        self.arrived += 1
        self._in_a_row = 0
        self._progress_s = now_s
        self.acked = off
        # Further than asked: an answer was lost, or an earlier upload had come so far.
        self.next_off = max(self.next_off, off)
        self._under_way = {
            sequence: sent
            for sequence, sent in self._under_way.items()
            if sent.off + sent.size_bytes > off
        }
        self._strikes = max(0.0, self._strikes - _FORGIVEN)
        self._calm += 1
        if self._calm >= (_CALM if self.losses else _CALM_AT_FIRST):
            self._calm = 0
            self.window = min(self._most, self.window + 1)
            self.room_bytes = min(self._most_bytes, 2 * self.room_bytes)

    def _go_back(self, off: int) -> None:
        self.acked = self.next_off = off
        self._under_way.clear()
        self.losses += 1
        self._in_a_row += 1
        self._calm = 0
        self._strikes += 1
        if self._strikes >= _STRIKES:
            self._shrink()

    def _shrink(self) -> None:
        """Fewer at a time first: a sensor may not keep up. If that is no better, it is noise.

        Against noise two at a time are kept: the answer to the second tells at once that the first
        was lost, which alone only silence would.
        """
        self._strikes = 0
        if self.window > self._fewest:
            self.window = self._fewest
            return
        self.window = self._fewest = min(2, self._most)
        self.room_bytes = max(min(SMALLEST_ROOM_BYTES, self._most_bytes), self.room_bytes // 2)

    def _learn(self, took_s: float) -> None:
        # RFC 6298, 2.2 and 2.3.
        if self._mean_s is None:
            self._mean_s, self._deviation_s = took_s, took_s / 2
            return
        self._deviation_s += (abs(took_s - self._mean_s) - self._deviation_s) / 4
        self._mean_s += (took_s - self._mean_s) / 8
