"""A bundle on trial in a running station: what it has done, and who takes over when it fails."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from lineside.errors import LinesideError, RefusedError
from lineside.station.giving import Judgement
from lineside.station.products import Product
from lineside.station.shadow import Shadow
from lineside.station.trial import TrialProgress
from lineside.station.turn import Turn
from lineside.verdict import Reason

_LATE: Final = (Reason.DEADLINE, Reason.OVERLOAD)


class OnTrial:
    """Counts, and hands the line over to the bundle before at the first fault. Thread-safe.

    Nothing here waits for a disk: what is decided counts at once in memory, and who watches the
    store makes it durable.

    Attributes:
        reason: why it was taken back, a word; ``""`` as long as it was not.
        words: the same for people.
        shadow: the bundle before, judging beside; ``None`` where there is no memory for it.
        told: called when it was taken back, so that this is made durable.

    Args:
        behind: the confirmed bundle; ``None``: it is not loaded, and ``reopen`` opens it.
        reopen: opens the confirmed bundle; may take seconds.
        swap: has the station judge by this product from the next part on.
        dress: gives a product the limits that were set for it by command.
        progress: so far.
    """

    def __init__(
        self,
        behind: Product | None,
        *,
        reopen: Callable[[], Product],
        swap: Callable[[Product], None],
        dress: Callable[[Product], Product],
        progress: TrialProgress,
    ) -> None:
        self.reason = ""
        self.words = ""
        self.shadow: Shadow | None = None
        self.told: Callable[[], None] = lambda: None
        self._behind = behind
        self._reopen = reopen
        self._swap = swap
        self._dress = dress
        self._progress = progress
        self._counting = threading.Lock()
        self._ending = threading.Lock()
        self._stand_in: Product | None = None
        self._confirmed = False
        self._busy: tuple[int, Turn] | None = None
        self._numbers = 0

    @property
    def progress(self) -> TrialProgress:
        """Of this moment."""
        with self._counting:
            return self._progress

    @property
    def behind(self) -> Product | None:
        """The confirmed bundle, where it is loaded, with the limits of this moment."""
        behind = self._behind
        return None if behind is None else self._dress(behind)

    @property
    def stand_in(self) -> Product | None:
        """Who judges in its place since it was taken back."""
        return self._stand_in

    @property
    def busy(self) -> tuple[int, Turn] | None:
        """The part that it computes on just now, numbered; ``None``: none."""
        return self._busy

    @contextlib.contextmanager
    def computing(self, turn: Turn) -> Iterator[None]:
        """While it judges this part: who watches sees when that takes too long."""
        self._numbers += 1
        self._busy = (self._numbers, turn)
        try:
            yield
        finally:
            self._busy = None

    def fail(self, reason: str, words: str) -> Product | None:
        """It judges nothing more; may be called again.

        Args:
            reason: a word for the store's record.
            words: for people.

        Returns:
            Who judges instead; ``None``: it was confirmed meanwhile, or nothing else opens.
        """
        with self._ending:
            if self._confirmed:
                return self.behind  # while that is being made durable, for this part
            is_first = not self.reason
            if is_first:
                self.reason, self.words = reason, words
                self._take_over()
        if is_first:
            self.told()
        return self._stand_in

    @contextlib.contextmanager
    def confirming(self) -> Iterator[None]:
        """The block makes it durable that it is on trial no more; where that raises, it still is.

        Raises:
            RefusedError: it was just taken back.
        """
        with self._ending:
            if self.reason:
                raise RefusedError(f"it was just taken back ({self.reason}): {self.words}")
            self._confirmed = True
        try:
            yield
        except BaseException:
            with self._ending:
                self._confirmed = False
            raise

    def let_go(self) -> None:
        """Of the bundle before, once nobody compares with it any more and it was confirmed."""
        with self._ending:
            if self._confirmed:
                self._behind = None

    def stand_behind(self, product: Product) -> None:
        """The confirmed bundle is loaded now."""
        with self._ending:
            self._behind = product

    def given(
        self, turn: Turn, judgement: Judgement, then: Callable[[bool], None] = lambda _: None
    ) -> bool:
        """Count a verdict of its own that was given, and have the bundle before judge the part too.

        Args:
            turn, judgement: of the part.
            then: told later, by another thread, whether the two disagree.

        Returns:
            Whether ``then`` will be told.
        """
        if self.reason:
            return False
        if not judgement.inspections:
            # Not where the disk is what all wait for, or where a picture does not come.
            is_late = judgement.verdict.reason in _LATE and turn.capture.frame is not None
            self._count(late=int(is_late and self._busy is not None))
            return False
        # A score: a frame that the model refuses is a verdict, and nothing that it has judged.
        if any(one.verdict.score is not None for one in judgement.inspections):
            self._count(parts=1)
        shadow = self.shadow
        if shadow is None:
            return False
        taken = shadow.offer(turn, judgement, then)
        if not taken:
            self._count(skipped=1)
        return taken

    def compared(self, disagree: bool | None) -> None:
        """The bundle before has judged a part; ``None``: it could not."""
        if disagree is None:
            self._count(skipped=1)
        else:
            self._count(compared=1, disagreements=int(disagree))

    def ran(self, passed_s: float) -> None:
        """The station has run with it for so long again."""
        with self._counting:
            ran_s = self._progress.ran_s + passed_s
            self._progress = msgspec.structs.replace(self._progress, ran_s=ran_s)

    def _take_over(self) -> None:
        # Where nothing else opens, each of its faults is a verdict of its own; the watcher of the
        # store says what is wrong, and tries again.
        with contextlib.suppress(LinesideError):
            self._behind = self._behind or self._reopen()
            self._swap(self._behind)
            self._stand_in = self.behind

    def _count(self, **added: int) -> None:
        with self._counting:
            sums = {name: getattr(self._progress, name) + more for name, more in added.items()}
            self._progress = msgspec.structs.replace(self._progress, **sums)
