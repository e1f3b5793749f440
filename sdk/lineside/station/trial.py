"""When a bundle on trial is confirmed and when it is taken back: a rule over counts. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, Literal

import msgspec

# With fewer, one part more or less would decide.
ENOUGH_COMPARED: Final = 20
OVERDUE_S: Final = 600.0
"""A trial that judges parts and goes on for so long beyond its end is said to the line."""


class TrialSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[bundle.trial]``.

    Attributes:
        parts: so many judged parts end the trial; 0: not by parts.
        minutes: so many minutes, in which the station runs, end it; 0: not by time.
        confirm: ``rule``: at its end it is confirmed; ``command``: not before somebody says so.
        max_disagree: share of the compared parts that the bundle before may evaluate otherwise; a
            part that is not judged in time counts as one.
        min_compared: so many parts are compared before the rule confirms; half of ``parts``, or of
            those that were judged, where that is less. 0: it confirms uncompared.
        restarts: of the program without confirm; one more takes the bundle back.
        hang_s: the model may compute so long on one part.
    """

    parts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 200
    minutes: Annotated[float, msgspec.Meta(ge=0, le=525_600)] = 60.0
    confirm: Literal["rule", "command"] = "rule"
    max_disagree: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    min_compared: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = ENOUGH_COMPARED
    restarts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 3
    hang_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0

    def __post_init__(self) -> None:
        if self.confirm == "rule" and self.parts == 0 and self.minutes == 0:
            raise ValueError(
                'parts = 0 and minutes = 0 never end with confirm = "rule"; give one of them, or '
                'take confirm = "command"'
            )


class TrialProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a trial is; kept over restarts.

    Attributes:
        bundle: of the bundle on trial, 64 hex digits.
        since_unix_ms: when it began, by the station's clock; for people.
        ran_s: so long the station has run with it: a clock that is set does not end a trial.
        parts: that it has judged and that the line heard.
        compared: of these, judged by the bundle before as well.
        disagreements: of the compared ones, those with another evaluation.
        skipped: parts that were not compared, because the bundle before could not keep up.
        late: parts whose time was over, or that gave way, while it computed.
    """

    bundle: str
    since_unix_ms: int = 0
    ran_s: float = 0.0
    parts: int = 0
    compared: int = 0
    disagreements: int = 0
    skipped: int = 0
    late: int = 0

    def told(self) -> str:
        """For people."""
        return (
            f"{self.parts} parts in {self.ran_s / 60:.0f} min, {self.compared} compared, "
            f"{self.disagreements} evaluated otherwise, {self.late} not in time"
        )


class Outcome(str, Enum):
    """What is to be done now."""

    GO_ON = "go on"
    CONFIRM = "confirm"
    REVERT = "revert"


def judge_trial(
    settings: TrialSettings, progress: TrialProgress, *, can_compare: bool = True
) -> Outcome:
    """Whether it ends here, and how. An engine that fails or hangs ends it without being asked.

    Args:
        settings: when it ends.
        progress: so far.
        can_compare: the bundle before is loaded. Where it is not, waiting would change nothing.
    """
    if _disagrees(settings, progress):
        enough = _compared(progress) >= ENOUGH_COMPARED
        return Outcome.REVERT if enough else Outcome.GO_ON
    # Time alone proves nothing: a line that stood for an hour has tried nothing.
    if settings.confirm == "command" or progress.parts == 0:
        return Outcome.GO_ON
    is_compared = not can_compare or progress.compared >= _needed(settings, progress)
    return Outcome.CONFIRM if is_compared and _is_over(settings, progress) else Outcome.GO_ON


def why_not_over(
    settings: TrialSettings, progress: TrialProgress, *, can_compare: bool = True
) -> str:
    """Why a trial goes on beyond its time or its parts, in words; ``""``: it does not."""
    if settings.confirm == "command" or not _is_over(settings, progress):
        return ""
    if progress.parts == 0:
        return "the trial's time is over and it has judged no part: it ends with the first"
    if _disagrees(settings, progress):
        return (
            f"the trial would be over, but of {_compared(progress)} compared parts too many "
            f"disagree: it goes on until {ENOUGH_COMPARED} are compared"
        )
    needed = _needed(settings, progress)
    if can_compare and progress.compared < needed:
        # Without figures that each part changes: it stands in the health until it is over.
        return (
            f"the trial goes on beyond its end until {needed} parts are compared with the bundle "
            "before (min_compared): too few were, because the inspection hardly rests or that "
            "bundle cannot judge them; or confirm by hand"
        )
    return ""


def _is_over(settings: TrialSettings, progress: TrialProgress) -> bool:
    by_time = settings.minutes > 0 and progress.ran_s >= 60.0 * settings.minutes
    return by_time or (settings.parts > 0 and progress.parts >= settings.parts)


def _needed(settings: TrialSettings, progress: TrialProgress) -> int:
    """A line that never rests compares nothing: parts and time alone would confirm unseen.

    Half of a few, so that a short trial ends too where one part was not compared; of those that
    are asked for, because a burst at its end that is not compared must not ask for more.
    """
    judged = min(progress.parts, settings.parts or progress.parts)
    return min(settings.min_compared, (judged + 1) // 2)


def _compared(progress: TrialProgress) -> int:
    return progress.compared + progress.late


def _disagrees(settings: TrialSettings, progress: TrialProgress) -> bool:
    against = progress.disagreements + progress.late
    return against > settings.max_disagree * _compared(progress)
