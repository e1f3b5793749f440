"""Frames that a model can learn from, in a bounded folder, written beside the loop.

They are worth less than a verdict: see `lineside.kept.scribe`.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.errors import ConfigurationError
from lineside.frame import Frame
from lineside.kept.facts import NAME, KeptFacts, encode_kept, facts_of
from lineside.kept.nearness import Nearness
from lineside.kept.ring import Ring
from lineside.kept.scribe import Scribe
from lineside.kept.settings import KeepSettings
from lineside.outbox.entry import RegionEntry
from lineside.sources import Capture
from lineside.verdict import Evaluation, Reason, Verdict

_UNDECIDED: Final = (Reason.BETWEEN_LIMITS, Reason.SCORE_NOT_FINITE)


@dataclass(frozen=True, kw_only=True)
class _Order:
    frame: Frame
    facts: KeptFacts


class FrameKeeper:
    """Chooses in the caller's thread, compresses and stores in a thread of its own.

    Args:
        settings: with a ``path``.

    Raises:
        ConfigurationError: no path.
    """

    def __init__(self, settings: KeepSettings) -> None:
        if settings.path is None:
            raise ConfigurationError("keep.path: name a folder", path="keep.path")
        self._settings = settings
        self._nearness = Nearness(settings.near)
        self._choosing = threading.Lock()
        self._ring = Ring(
            settings.path,
            NAME,
            section="keep",
            most=settings.most,
            max_mib=settings.max_mib,
            keep_free_mib=settings.keep_free_mib,
        )
        self._scribe = Scribe(
            self._write,
            name="lineside-frames",
            things="frames",
            behind="frames to keep come faster than they can be written",
        )

    @property
    def written(self) -> int:
        """Frames that were kept, since the start."""
        return self._scribe.written

    @property
    def lost(self) -> int:
        """Frames that should have been kept and were not, since the start."""
        return self._scribe.lost

    @property
    def fault(self) -> str:
        """Why frames are lost just now, ``""`` when all is well."""
        return self._scribe.fault

    def start(self) -> None:
        """Start the thread."""
        self._scribe.start()

    def offer(
        self,
        capture: Capture,
        verdict: Verdict,
        *,
        turn: str,
        drifting: bool = False,
        disagree: bool = False,
        regions: tuple[RegionEntry, ...] = (),
    ) -> tuple[str, ...]:
        """Have the frame kept where it is worth it; never waits.

        Every part is offered, once, from any thread: what is near is told by rank.

        Args:
            capture: with the frame; without one there is nothing to keep.
            verdict: that the line heard.
            turn: 16 hex digits.
            drifting: the drift monitor says that parts like this one are.
            disagree: the bundle on trial and the one before do.
            regions: where a frame has some, also where they were not inspected.

        Returns:
            Why it is kept, see `KeptFacts`; empty where it is not.
        """
        with self._choosing:
            why = self._reasons(verdict, turn, drifting=drifting)
        why = ("disagree", *why) if disagree else why
        if capture.frame is None or not why:
            return ()
        facts = facts_of(
            verdict,
            turn=turn,
            why=why,
            part_id=capture.part_id,
            taken_unix_ns=capture.taken_unix_ns,
            regions=regions,
        )
        self._scribe.order(_Order(frame=capture.frame, facts=facts))
        return why

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for so long at most; the rest is lost."""
        self._scribe.stop(timeout_s)

    def free_room(self, wanted_bytes: int, *, beside: Path | None = None) -> int:
        """Delete kept frames for whoever needs the disk more; see `Ring.free_room`."""
        return self._ring.free_room(wanted_bytes, beside=beside)

    def _reasons(self, verdict: Verdict, turn: str, *, drifting: bool) -> tuple[str, ...]:
        why = []
        if verdict.evaluation not in (Evaluation.OK, Evaluation.NOT_OK):
            why.append("undecided" if verdict.reason in _UNDECIDED else "fault")
        if drifting:
            why.append("drifting")
        if self._nearness.is_near(verdict):
            why.append("near")
        if _drawn(turn, self._share(verdict.evaluation)):
            why.append("share")
        return tuple(why)

    def _share(self, evaluation: Evaluation) -> float:
        if evaluation is Evaluation.OK:
            return self._settings.ok_share
        return self._settings.not_ok_share if evaluation is Evaluation.NOT_OK else 0.0

    def _write(self, order: _Order) -> None:
        self._ring.make_room(kind=order.facts.why[0])
        data = encode_kept(order.frame.pixels_hwc, order.facts)
        self._ring.make_room(len(data), kind=order.facts.why[0])
        self._ring.store(order.facts.name, data)


def _drawn(turn: str, share: float) -> bool:
    """Whether a turn belongs to a share of all; by hash, so that whoever asks hears the same."""
    digest = hashlib.sha256(turn.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
