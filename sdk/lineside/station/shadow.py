"""The bundle before judges beside the one on trial, after the line has heard: nobody waits."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from lineside.outbox import Note
from lineside.station.giving import Judgement
from lineside.station.judge import engine_fault
from lineside.station.turn import Turn
from lineside.wholetext import whole_text
from lineside.worker import Worker

# Parts hold frames: four of 20 megapixels in colour are 240 MB.
_WAITING: Final = 4
_TICK_S: Final = 0.2
# Between two looks whether the inspection rests; short beside any part's time.
_YIELD_S: Final = 0.002
# A model that is quite another must not fill the journal.
_NOTES_A_MINUTE: Final = 10


@dataclass(frozen=True, kw_only=True)
class _Part:
    turn: Turn
    judgement: Judgement
    then: Callable[[bool], None]


class Shadow:
    """Judges one part after the other in a thread of low priority, while the inspection rests.

    Args:
        judge: by the bundle before.
        rests: whether the inspection has nothing to do just now; asked often, must not wait.
        compared: told of each part whether the two disagree; ``None``: it could not be judged.
        note: for the journal, of some disagreements.
    """

    def __init__(
        self,
        judge: Callable[[Turn], Judgement],
        *,
        rests: Callable[[], bool],
        compared: Callable[[bool | None], None],
        note: Callable[[Note], object],
    ) -> None:
        self._judge = judge
        self._rests = rests
        self._compared = compared
        self._note = note
        self._noted_s: deque[float] = deque(maxlen=_NOTES_A_MINUTE)
        self._parts: queue.Queue[_Part] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._worker = Worker(self._run, name="lineside-shadow", lowered=True)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    @property
    def fault(self) -> str:
        """Why nothing is compared any more, ``""`` when all is well."""
        failure = self._worker.failure
        return "" if failure is None else f"no more parts are compared: {failure!r}"

    def offer(self, turn: Turn, judgement: Judgement, then: Callable[[bool], None]) -> bool:
        """Have a part judged where there is room; from any thread, never waits.

        Args:
            turn: of the part.
            judgement: of the bundle on trial, as the line heard it.
            then: told whether the two disagree, once; where they cannot be compared, ``False``.

        Returns:
            ``False``: there is no room, and ``then`` is not told.
        """
        if self._stopping.is_set() or self._worker.failure is not None:
            return False
        try:
            self._parts.put_nowait(_Part(turn=turn, judgement=judgement, then=then))
        except queue.Full:
            return False
        return True

    def stop(self, timeout_s: float) -> bool:
        """End it; what waits is not compared. ``False``: it computes still."""
        self._stopping.set()
        ended = self._worker.join(timeout_s)
        with contextlib.suppress(queue.Empty):
            while True:
                self._let_go(self._parts.get_nowait())
        return ended

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                part = self._parts.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            while not self._rests() and not self._stopping.is_set():
                time.sleep(_YIELD_S)
            if self._stopping.is_set():
                self._let_go(part)
            else:
                self._compare(part)
            # Not held while nothing comes: it has a frame.
            del part

    def _compare(self, part: _Part) -> None:
        disagree = False
        try:
            ours = self._judge(part.turn)
            if engine_fault(ours) or not ours.inspections:
                self._compared(None)
                return
            disagree = ours.verdict.evaluation is not part.judgement.verdict.evaluation
            if disagree:
                self._tell(part, ours)
            self._compared(disagree)
        finally:
            part.then(disagree)

    def _let_go(self, part: _Part) -> None:
        self._compared(None)
        part.then(False)

    def _tell(self, part: _Part, ours: Judgement) -> None:
        now_s = time.monotonic()
        if len(self._noted_s) == _NOTES_A_MINUTE and now_s - self._noted_s[0] < 60.0:
            return
        self._noted_s.append(now_s)
        self._note(disagreement_note(part.turn, part.judgement, ours))


def disagreement_note(turn: Turn, trial: Judgement, confirmed: Judgement) -> Note:
    """For the journal, whose row of this turn says the rest."""
    body = {
        "turn": turn.id,
        "part": whole_text(turn.capture.part_id),
        "product": trial.verdict.product,
        "trial": trial.product.card.bundle[:16],
        "trial_evaluation": int(trial.verdict.evaluation),
        "trial_score": trial.verdict.score,
        "confirmed": confirmed.product.card.bundle[:16],
        "confirmed_evaluation": int(confirmed.verdict.evaluation),
        "confirmed_score": confirmed.verdict.score,
    }
    return Note(kind="shadow", body=msgspec.json.encode(body))
