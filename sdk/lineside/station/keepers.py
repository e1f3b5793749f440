"""What is kept of a part after its verdict: pictures, frames, and what they say of drift."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lineside.outbox import Outbox
from lineside.station.drifting import DriftKeeper
from lineside.station.giving import Judgement, region_entries
from lineside.station.keeping import FrameKeeper
from lineside.station.maps import MapKeeper
from lineside.station.products import Products
from lineside.station.regions import cut_frames, find_worst
from lineside.station.turn import Turn
from lineside.verdict import Reason

# Five pictures at most wait or are being written.
_DRAIN_S: Final = 5.0
# Each second while the disk runs full: a second of 1,000 verdicts' journal is 1 MiB.
_ROOM_BYTES: Final = 16 * 2**20


class Keepers:
    """All of them worth less than a verdict: none delays one, and what fails is told in words.

    Args:
        products: what judges.
        outbox: hears of drift; beside its file lies the evidence.
        maps: takes the pictures of parts that are not OK; ``None``: none are made.
        frames: takes the frames that are worth keeping; ``None``: none are kept.
    """

    def __init__(
        self,
        products: Products,
        outbox: Outbox,
        *,
        maps: MapKeeper | None = None,
        frames: FrameKeeper | None = None,
    ) -> None:
        self.maps = maps
        self.frames = frames
        evidence = outbox.path.with_name(f"{outbox.path.name}.drift")
        self.drift = DriftKeeper(products, evidence, outbox)

    @property
    def troubles(self) -> dict[str, str]:
        """What is not well, in words; ``""`` where all is."""
        return {
            "maps": "" if self.maps is None else self.maps.fault,
            "keep": "" if self.frames is None else self.frames.fault,
            "drift": self.drift.fault,
        }

    def start(self) -> None:
        """Start their threads."""
        for keeper in self._with_threads():
            keeper.start()

    def stop(self) -> None:
        """Write what waits, for some seconds at most."""
        for keeper in self._with_threads():
            keeper.stop(_DRAIN_S)

    def make_room(self, beside: Path) -> None:
        """The disk runs full: frames and pictures are worth less than the journal."""
        for keeper in self._with_threads():
            keeper.free_room(_ROOM_BYTES, beside=beside)

    def keep(self, turn: Turn, judgement: Judgement) -> None:
        """In the thread that gave the verdict; the line has not waited for it."""
        if judgement.verdict.reason is Reason.PAUSED:
            return  # somebody works at the station: what it sees now is nothing to learn from
        self._draw(turn, judgement)
        drifting = self.drift.add(turn, judgement)

        def keep_frame(disagree: bool) -> None:
            if self.frames is not None:
                self.frames.offer(
                    turn.capture,
                    judgement.verdict,
                    turn=turn.id,
                    drifting=drifting,
                    disagree=disagree,
                    regions=region_entries(judgement),
                )

        # On trial the frame is kept once it is known what the bundle before says of it.
        trial = judgement.product.on_trial
        if trial is None or not trial.given(turn, judgement, keep_frame):
            keep_frame(False)

    def _draw(self, turn: Turn, judgement: Judgement) -> None:
        frame, product = turn.capture.frame, judgement.product
        if self.maps is None or frame is None or product.contract is None:
            return
        if judgement.inspections:
            worst = find_worst(judgement.inspections, product.rule)
            seen = cut_frames(frame, product.regions)[worst]
            self.maps.offer(turn.capture, seen, judgement.inspections[worst], product.contract)

    def _with_threads(self) -> list[MapKeeper | FrameKeeper]:
        return [keeper for keeper in (self.maps, self.frames) if keeper is not None]
