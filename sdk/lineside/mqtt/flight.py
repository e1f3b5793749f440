"""What is on its way without acknowledgement, and for what there is room beside it. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["live", "history", "control"]
# States, answers and the like: they must come through most of all when a broker has stopped
# acknowledging verdicts, so some places are theirs.
CONTROL_PLACES = 4


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message without its acknowledgement; ``seq`` is the verdict's that it is about."""

    since_s: float
    kind: Kind
    seq: int | None = None


class Flight:
    """Counts messages against a window, and verdicts against their messages.

    Args:
        window: messages that may be on their way at once.
    """

    def __init__(self, window: int) -> None:
        self._control_places = min(CONTROL_PLACES, window // 5)
        self._verdict_places = window - self._control_places
        # At least one, where that leaves one to live verdicts.
        self._history_places = min(max(window // 5, 1), self._verdict_places - 1)
        self._window = window
        self._sent: OrderedDict[int, Sent] = OrderedDict()
        self._count: dict[Kind, int] = {"live": 0, "history": 0, "control": 0}
        self._owed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def verdict_places(self) -> int:
        """How many messages about verdicts may be on their way at once."""
        return self._verdict_places

    def has_seq(self, seq: int) -> bool:
        """Whether messages about this verdict are on their way or still to be sent."""
        return seq in self._owed

    def live_room(self, *, history_waits: bool) -> int:
        """Messages that may go to the line now; history keeps its share of the places."""
        kept = max(self._count["history"], self._history_places if history_waits else 0)
        return min(self._verdict_places - self._count["live"] - kept, self._free())

    def history_room(self, *, live_waits: bool) -> int:
        """Messages that may go to history now; in a window of one place only when it is idle."""
        if self._history_places == 0:
            return 0 if live_waits or self._sent else 1
        return min(self._history_places - self._count["history"], self._free())

    def control_room(self) -> int:
        """Messages about the station itself that may go now."""
        return min(max(self._control_places, 1) - self._count["control"], self._free())

    def expect(self, seq: int, messages: int) -> None:
        """A verdict counts as acknowledged when so many of its messages are."""
        self._owed[seq] = messages

    def add(self, number: int, sent: Sent) -> None:
        """A message has left under this number."""
        self._sent[number] = sent
        self._count[sent.kind] += 1

    def settle(self, numbers: Sequence[int]) -> list[int]:
        """The broker has these messages.

        Returns:
            The verdicts of which it now has everything.
        """
        whole = []
        for number in numbers:
            sent = self._sent.pop(number, None)
            if sent is None:
                continue
            self._count[sent.kind] -= 1
            if sent.seq is not None:
                self._owed[sent.seq] -= 1
                if self._owed[sent.seq] == 0:
                    del self._owed[sent.seq]
                    whole.append(sent.seq)
        return whole

    def oldest_s(self) -> float | None:
        """Since when the oldest one waits for its acknowledgement, monotonic seconds."""
        return next(iter(self._sent.values())).since_s if self._sent else None

    def _free(self) -> int:
        return self._window - len(self._sent)
