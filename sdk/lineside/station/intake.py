"""From the source to the backlog: each capture becomes a turn, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from lineside.errors import FrameError
from lineside.sources import Capture, Source, Trigger
from lineside.station.backlog import Backlog
from lineside.station.deadline import DeadlineWatch
from lineside.station.giving import Giver
from lineside.station.pace import Pace
from lineside.station.products import Products
from lineside.station.turn import Turn
from lineside.verdict import Reason
from lineside.worker import Worker


class _End:
    """The source has no more."""


_END: Final = _End()


class Intake:
    """Takes frames as fast as the backlog's policy allows.

    Args:
        source: where captures come from.
        products: what judges them.
        backlog: where turns wait.
        watch: hears of each turn's deadline.
        giver: gives the verdict of a part that gives way.
        pace: the deadline.
        stopping: ends it.
        beat: called a few times a second.
        ended: called once, at the end.
    """

    def __init__(
        self,
        source: Source,
        products: Products,
        *,
        backlog: Backlog,
        watch: DeadlineWatch,
        giver: Giver,
        pace: Pace,
        stopping: threading.Event,
        beat: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._source = source
        self._products = products
        self._backlog = backlog
        self._watch = watch
        self._giver = giver
        self._pace = pace
        self._stopping = stopping
        self._beat = beat
        self._ended = ended
        # Triggered and without a picture so far; as many as the source lets wait.
        self._announced: dict[int, Turn] = {}
        source.when_accepted(self._announce)
        self._worker = Worker(self._take_all, name="lineside-source")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        self._worker.check()

    def _take_all(self) -> None:
        captures = self._source.captures(self._stopping)
        try:
            while True:
                self._beat()
                self._backlog.wait_for_room(self._stopping, self._beat)
                capture = next(captures, _END)
                if isinstance(capture, _End):
                    return
                if capture is not None:
                    self._begin(capture)
        finally:
            self._ended()
            self._backlog.close()

    def _announce(self, trigger: Trigger) -> None:
        """In the thread that triggers: its deadline counts, however long the picture takes."""
        if self._pace.deadline_ms is not None:
            turn = self._turn_of(await_picture(trigger))
            self._announced[id(trigger)] = turn
            self._watch.add(turn)

    def _turn_of(self, capture: Capture) -> Turn:
        # Of the moment at which the part was there: its frame may come after a changeover.
        product = self._products.find(capture.product, at_ns=capture.taken_ns)
        return Turn(capture, product, deadline_ms=self._pace.deadline_ms)

    def _begin(self, capture: Capture) -> None:
        turn = self._announced.pop(id(capture.trigger), None)
        if turn is None:
            turn = self._turn_of(capture)
            self._watch.add(turn)
        else:
            turn.capture = capture
        given_way = self._backlog.put(turn)
        if given_way is not None:
            product = given_way.product or self._products.active
            told = "others were waiting"
            self._giver.give_fault(given_way, product, Reason.OVERLOAD, told, meanwhile=self._beat)
        turn.frame_sha256()  # here, beside the inspection


def await_picture(trigger: Trigger) -> Capture:
    """What stands for a part until its picture is there; its deadline may come before."""
    return Capture(
        part_id=trigger.part_id,
        product=trigger.product,
        taken_unix_ns=trigger.at_unix_ns,
        taken_ns=trigger.at_ns,
        read_us=0.0,
        fault=FrameError("its picture has not come yet", reason=Reason.FRAME_MISSING.value),
        trigger=trigger,
    )
