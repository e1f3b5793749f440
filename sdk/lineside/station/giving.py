"""From a judged turn to what is stored: payload, findings, and what made them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.errors import FrameError
from lineside.inspector import Inspection
from lineside.mqtt.findings import encode_findings
from lineside.mqtt.payload import encode_verdict, message_of
from lineside.outbox import Draft, JournalEntry, Late, Outbox, RegionEntry, Stamp, encode_entry
from lineside.station.products import Product
from lineside.station.regions import RegionSettings
from lineside.station.report import Tally
from lineside.station.turn import Turn
from lineside.verdict import Evaluation, Reason, Verdict

# A score or the probabilities of some classes; a map is no number to be read.
_OUTPUT_VALUES_KEPT: Final = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What was found of one part.

    Attributes:
        verdict: the part's; of several regions that of the worst.
        product: what judged.
        inspections: of each region, or of the whole frame; empty where none was made.
    """

    verdict: Verdict
    product: Product
    inspections: tuple[Inspection, ...] = ()


class Giver:
    """Gives each turn its one verdict, and tells the journal what came too late.

    Thread-safe: inspection, deadline and backlog give.

    Attributes:
        late: results that came after their deadline.
        late_lost: of these, not in the journal because the disk stood.
        lost: verdicts that the disk did not take before the station's end.

    Args:
        outbox: makes it durable.
        tally: counts it.
        expiry_s: how long after its turn began a verdict may still be acted on.
        stopping: set when what cannot be stored is no longer waited for.
        given: called with each verdict that was given, in the giver's thread.
    """

    def __init__(
        self,
        outbox: Outbox,
        tally: Tally,
        *,
        expiry_s: float,
        stopping: threading.Event,
        given: Callable[[Turn, Judgement], None] = lambda _turn, _judgement: None,
    ) -> None:
        self.late = 0
        self.late_lost = 0
        self.lost = 0
        self._given = given
        self._outbox = outbox
        self._tally = tally
        self._expiry_ms = round(expiry_s * 1000)
        self._stopping = stopping
        self._counting = threading.Lock()

    def give(
        self, turn: Turn, judgement: Judgement, *, meanwhile: Callable[[], None] = lambda: None
    ) -> bool:
        """Whether this was the turn's verdict, and it is on its way to the disk.

        Args:
            turn: whose.
            judgement: what was found.
            meanwhile: called a few times a second while the disk is waited for.
        """
        latency_us = (time.monotonic_ns() - turn.capture.taken_ns) / 1000
        # The watch may have slept past the deadline, as all of a stopped or starved process does.
        if judgement.inspections and turn.is_over:
            self.expire(turn, judgement.product)
        if not turn.claim():
            if judgement.inspections:  # else it is no result, only another reason for none
                self._keep_late(turn, judgement, latency_us)
            return False
        draft = self._draft(turn, judgement, latency_us)
        if not self._outbox.put(draft, stopping=self._stopping, meanwhile=meanwhile):
            with self._counting:
                self.lost += 1
            return False
        with self._counting:
            self._tally.add(judgement.verdict, read_us=turn.capture.read_us)
        self._given(turn, judgement)
        return True

    def expire(self, turn: Turn, product: Product) -> bool:
        """Its deadline is over; whether that was its verdict."""
        told = f"nothing was decided within {turn.deadline_ms or 0.0:g} ms"
        return self.give_fault(turn, product, Reason.DEADLINE, told)

    def give_fault(
        self,
        turn: Turn,
        product: Product,
        reason: Reason,
        detail: str,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> bool:
        """The same for a part that could not be inspected."""
        verdict = undecided(turn, product, reason, detail)
        judgement = Judgement(verdict=verdict, product=product)
        return self.give(turn, judgement, meanwhile=meanwhile)

    def _keep_late(self, turn: Turn, judgement: Judgement, latency_us: float) -> None:
        entry = describe(turn, judgement, latency_us, late=True)
        self.late += 1
        kept = self._outbox.put_late(Late(turn=turn.id, entry=encode_entry(entry)))
        self.late_lost += not kept

    def _draft(self, turn: Turn, judgement: Judgement, latency_us: float) -> Draft:
        verdict, capture = judgement.verdict, turn.capture
        expires_unix_ms = capture.taken_unix_ns // 1_000_000 + self._expiry_ms

        def encode(stamp: Stamp) -> bytes:
            return encode_verdict(
                message_of(
                    verdict,
                    seq=stamp.seq,
                    job_id=stamp.job_id,
                    part_id=capture.part_id,
                    taken_unix_ns=capture.taken_unix_ns,
                    expires_unix_ms=expires_unix_ms,
                )
            )

        def findings(stamp: Stamp) -> bytes:
            return encode_findings(
                verdict.findings, seq=stamp.seq, job_id=stamp.job_id, part_id=capture.part_id
            )

        return Draft(
            encode=encode,
            key=capture.key,
            expires_unix_ms=expires_unix_ms,
            findings=findings if verdict.findings else None,
            entry=encode_entry(describe(turn, judgement, latency_us)),
        )


def undecided(turn: Turn, product: Product, reason: Reason, detail: str) -> Verdict:
    """A verdict for a part that was not inspected."""
    card = product.card
    return Verdict(
        evaluation=Evaluation.NOT_DECIDABLE,
        reason=reason,
        detail=detail,
        unit=card.unit,
        product=card.product,
        model=card.bundle[:16],
        engine=card.engine,
        part_id=turn.capture.part_id,
    )


def without_frame(turn: Turn, product: Product) -> Verdict:
    """The verdict of a turn that has a fault in the place of its frame."""
    fault = turn.capture.fault or FrameError("no frame", reason=Reason.FRAME_MISSING.value)
    return undecided(turn, product, Reason(fault.reason), str(fault))


def describe(
    turn: Turn, judgement: Judgement, latency_us: float, *, late: bool = False
) -> JournalEntry:
    """Everything that made the verdict, for the journal."""
    verdict, card, capture = judgement.verdict, judgement.product.card, turn.capture
    limits = card.limits
    return JournalEntry(
        turn=turn.id,
        part=capture.part_id,
        evaluation=int(verdict.evaluation),
        reason=verdict.reason.value,
        detail=verdict.detail,
        score=verdict.score,
        limit=verdict.limit,
        unit=verdict.unit,
        product=card.product if turn.product else turn.capture.product or card.product,
        bundle=card.bundle,
        engine=card.engine,
        rule="" if limits is None else limits.source,
        ok_limit=None if limits is None else limits.effective.ok_limit,
        not_ok_limit=None if limits is None else limits.effective.not_ok_limit,
        taken_unix_ns=capture.taken_unix_ns,
        latency_us=latency_us,
        timings=verdict.timings,
        frame_source="" if capture.frame is None else capture.frame.source,
        frame_sha256=turn.frame_sha256(),
        regions=region_entries(judgement),
        findings=verdict.findings,
        late=late,
    )


def region_entries(judgement: Judgement) -> tuple[RegionEntry, ...]:
    """What was found in each region; regions that were not inspected only say where they are."""
    inspections, places = judgement.inspections, judgement.product.regions
    if not inspections:
        return tuple(RegionEntry(name=place.name, region=place.region) for place in places)
    named: Sequence[RegionSettings | None] = places or (None,)
    return tuple(
        RegionEntry(
            name="" if place is None else place.name,
            region=None if place is None else place.region,
            evaluation=int(inspection.verdict.evaluation),
            reason=inspection.verdict.reason.value,
            score=inspection.verdict.score,
            outputs=_readable(inspection.outputs),
        )
        for inspection, place in zip(inspections, named, strict=True)
    )


def _readable(outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[float | None, ...]]:
    # JSON knows no NaN and no infinity.
    return {
        name: tuple(float(value) if np.isfinite(value) else None for value in values.flat)
        for name, values in outputs.items()
        if values.size <= _OUTPUT_VALUES_KEPT
    }


def words_of_lost(lost: int, outbox: Outbox) -> str:
    """Why the last verdicts are not on the disk, and what becomes of their parts."""
    first = f"{lost} verdicts" if lost else "the last verdicts"
    return (
        f"{first} could not be written before the end: {outbox.fault or 'the disk stands'}; frames "
        "of a folder are judged again at the next start, triggered parts are not"
    )
