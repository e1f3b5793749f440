"""One trial from its begin to its end: the bundle tried, that behind it, and the file of both."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Final

from lineside.errors import StorageError
from lineside.station.giving import Judgement
from lineside.station.hanging import HangWatch
from lineside.station.judge import judge_by
from lineside.station.ontrial import OnTrial
from lineside.station.products import Product
from lineside.station.shadow import Shadow
from lineside.station.slotstart import Occupant
from lineside.station.slotwords import Surroundings
from lineside.station.trial import (
    OVERDUE_S,
    Outcome,
    TrialProgress,
    TrialSettings,
    judge_trial,
    why_not_over,
)
from lineside.station.trialfile import TrialFile
from lineside.station.turn import Turn

# So much of what was counted is forgotten by a power cut.
_SAVE_EVERY_S: Final = 30.0
_JOIN_S: Final = 2.0


class TrialRun:
    """For the thread that watches the store; what it tells may be asked from any.

    Attributes:
        now: on trial.
        behind: confirmed; ``None``: there is no memory for it, or it does not open.
        alone: why nothing is compared, in words; ``""`` with a bundle behind.
        on_trial: what the inspection speaks with.
        product: of ``now``, as the station is to judge by it.

    Args:
        now, behind, alone: see there.
        settings: when it ends.
        file: remembers it over restarts.
        progress: so far.
        reopen, swap, dress: see `OnTrial`.
    """

    def __init__(
        self,
        now: Occupant,
        behind: Occupant | None,
        *,
        settings: TrialSettings,
        file: TrialFile,
        progress: TrialProgress,
        reopen: Callable[[], Product],
        swap: Callable[[Product], None],
        dress: Callable[[Product], Product],
        alone: str = "",
    ) -> None:
        self.now = now
        self.behind = behind
        self._settings = settings
        self._file = file
        self.alone = alone
        self._around = Surroundings()
        self._hang = HangWatch(settings.hang_s)
        self._saved = progress
        self._save_at_s = time.monotonic() + _SAVE_EVERY_S
        self._file_fault = ""
        self._beyond_s = 0.0
        self._is_told = False
        self.on_trial = OnTrial(
            None if behind is None else behind.loaded.product,
            reopen=reopen,
            swap=swap,
            dress=dress,
            progress=progress,
        )
        self.product = dataclasses.replace(now.loaded.product, on_trial=self.on_trial)

    def stand_behind(self, behind: Occupant) -> None:
        """The confirmed bundle is loaded now; before the station runs."""
        self.behind, self.alone = behind, ""
        self.on_trial.stand_behind(behind.loaded.product)

    def begin(self, around: Surroundings) -> None:
        """The station runs: have the bundle behind judge beside."""
        self._around = around
        self.on_trial.told = around.wake
        self._hang = HangWatch(min(self._settings.hang_s, around.hang_limit_s))
        if self.behind is None:
            return
        # Nothing of it holds this object: when the trial is over, its models are to be freed.
        self.on_trial.shadow = Shadow(
            _judging_behind(self.on_trial),
            rests=around.rests,
            compared=self.on_trial.compared,
            note=around.note,
        )
        self.on_trial.shadow.start()

    def look(self, passed_s: float) -> Outcome:
        """Once a second: whether it ends.

        Args:
            passed_s: since the last look, in which the station ran.
        """
        self.on_trial.ran(passed_s)
        if time.monotonic() >= self._save_at_s:
            self.save()
        progress = self.on_trial.progress
        is_beyond = progress.parts > 0 and bool(self._why_not_over())
        self._beyond_s = self._beyond_s + passed_s if is_beyond else 0.0
        return judge_trial(self._settings, progress, can_compare=self.behind is not None)

    @property
    def is_overdue(self) -> bool:
        """Whether it judges and goes on long beyond its end."""
        return self._beyond_s >= OVERDUE_S

    def fetch_overdue(self) -> str:
        """Once, as soon as that is so: why, in words; else ``""``."""
        if self._is_told or not self.is_overdue:
            return ""
        self._is_told = True
        return f"{self._why_not_over()} ({self.on_trial.progress.told()})"

    def _why_not_over(self) -> str:
        progress, can_compare = self.on_trial.progress, self.behind is not None
        return why_not_over(self._settings, progress, can_compare=can_compare)

    def hangs(self, passed_s: float) -> Turn | None:
        """The part on which the model hangs; ``None``: it does not."""
        busy = self.on_trial.busy
        is_hung = self._hang.look(None if busy is None else busy[0], passed_s)
        return busy[1] if is_hung and busy is not None else None

    @property
    def hang_limit_s(self) -> float:
        """So long it may compute on one part."""
        return min(self._settings.hang_s, self._around.hang_limit_s)

    def save(self) -> None:
        """Remember how far it is; a disk that does not take it is a trouble in words."""
        self._save_at_s = time.monotonic() + _SAVE_EVERY_S
        progress = self.on_trial.progress
        if progress == self._saved:
            return
        try:
            self._file.save(progress)
        except StorageError as error:
            self._file_fault = f"how far the trial is cannot be remembered: {error}"
        else:
            self._saved, self._file_fault = progress, ""

    def end(self) -> None:
        """Nothing is compared any more, and what was is remembered."""
        shadow, self.on_trial.shadow = self.on_trial.shadow, None
        if shadow is not None:
            shadow.stop(_JOIN_S)
        self.on_trial.let_go()
        self.save()

    @property
    def trouble(self) -> str:
        """What is not as it should be, in words; ``""`` when all is well."""
        shadow = self.on_trial.shadow
        compared = "" if shadow is None else shadow.fault
        words = (self.alone, compared, self._why_not_over(), self._file_fault)
        return "; ".join(filter(None, words))


def _judging_behind(trial: OnTrial) -> Callable[[Turn], Judgement]:
    def judge(turn: Turn) -> Judgement:
        behind = trial.behind
        assert behind is not None, "the shadow ends before that is let go"
        return judge_by(turn, behind)

    return judge
