"""What humans said of parts: checked when it arrives, and joined to the inspections it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.commands import DispositionCommand
from lineside.mqtt.payload import wire_part_id
from lineside.outbox.records import Note
from lineside.verdict import Evaluation

NOTE_KIND: Final = "disposition"
_VERDICT: Final = re.compile(r"[0-9a-f]{18}")


class Disposition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A human's word on a part, as the journal keeps it.

    Attributes:
        heard_unix_ns: when the station heard it.
        verdict: the id of the verdict it is about; or ``part``, as the line or the journal
            writes it: one of both.
        evaluation: 1 OK or 2 NOT_OK.
        defect: which kind, in the trainer's words; ``""`` where there is none or it is unknown.
        by: who looked.
        note: in words.
        id: of the command.
    """

    heard_unix_ns: int
    verdict: str = ""
    part: str = ""
    evaluation: int
    defect: str = ""
    by: str = ""
    note: str = ""
    id: str = ""


def disposition_note(command: DispositionCommand, *, heard_unix_ns: int) -> Note:
    """A command as the journal keeps it.

    Args:
        command: as it came; one of both subjects, lengths and signs were checked on its way.
        heard_unix_ns: now, by the station's clock.

    Raises:
        InputDataError: the verdict is no id, or a part that is OK has a defect; it says which.
    """
    if command.verdict and _VERDICT.fullmatch(command.verdict) is None:
        raise InputDataError(
            f"verdict {command.verdict[:40]!r}: 18 hex digits are needed, the id of the verdict's "
            "message"
        )
    if command.defect and (command.evaluation == Evaluation.OK or command.defect.lower() == "ok"):
        raise InputDataError(
            f"defect {command.defect!r}: a part that is OK has none; leave defect out, or say "
            "evaluation 2 and which kind it is"
        )
    return Note(
        kind=NOTE_KIND,
        body=msgspec.json.encode(
            Disposition(
                heard_unix_ns=heard_unix_ns,
                verdict=command.verdict,
                part=command.part,
                evaluation=command.evaluation,
                defect=command.defect,
                by=command.by,
                note=command.note,
                id=command.id,
            )
        ),
    )


def decode_disposition(body: bytes) -> Disposition:
    """Read a note's body back; keys of newer versions are passed over.

    Raises:
        InputDataError: not JSON, a key missing, a value of the wrong kind.
    """
    try:
        return msgspec.json.decode(body, type=Disposition)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(f"the journal holds no disposition there: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """A part's turn, as far as dispositions ask.

    Attributes:
        job_id: the verdict's id; ``""`` where the journal has none.
        part: the whole part id.
    """

    turn: str
    job_id: str
    part: str
    taken_unix_ns: int


def settle(
    inspected: Iterable[Inspected], dispositions: Sequence[Disposition]
) -> Mapping[str, Disposition]:
    """Which disposition holds for which turn.

    One about a verdict holds for its turn. One about a part holds for that part's inspections
    since the disposition before, so that a reworked part that comes again does not change what was
    said of it as it was; of several without an inspection between them the last one holds. Where
    both kinds speak of a turn, the one that was heard last holds.

    Args:
        inspected: all turns of the parts that count, also those of which no frame was kept.
        dispositions: in any order.

    Returns:
        By turn; those of which nobody spoke are left out.
    """
    by_verdict = {said.verdict: said for said in sorted(dispositions, key=_heard) if said.verdict}
    by_part: dict[str, list[Disposition]] = {}
    for said in dispositions:
        if said.part:
            by_part.setdefault(said.part, []).append(said)
    turns: dict[str, list[Inspected]] = {}
    holding: dict[str, Disposition] = {}
    for one in inspected:
        if one.job_id in by_verdict:
            holding[one.turn] = by_verdict[one.job_id]
        if one.part and (one.part in by_part or wire_part_id(one.part) in by_part):
            turns.setdefault(one.part, []).append(one)
    for part, ones in turns.items():
        spoken = by_part.get(part, [])
        if (wire := wire_part_id(part)) != part:
            spoken = spoken + by_part.get(wire, [])
        for turn, said in _since_the_one_before(ones, spoken).items():
            other = holding.get(turn)
            if other is None or other.heard_unix_ns <= said.heard_unix_ns:
                holding[turn] = said
    return holding


def _since_the_one_before(
    inspected: Sequence[Inspected], spoken: Sequence[Disposition]
) -> dict[str, Disposition]:
    """Of one part, walked from its last day to its first."""
    held: dict[str, Disposition] = {}
    waiting = sorted(spoken, key=_heard)
    now: Disposition | None = None
    for one in sorted(inspected, key=lambda one: one.taken_unix_ns, reverse=True):
        later = None
        while waiting and waiting[-1].heard_unix_ns >= one.taken_unix_ns:
            said = waiting.pop()
            later = later or said
        now = later or now
        if now is not None:
            held[one.turn] = now
    return held


def _heard(said: Disposition) -> int:
    return said.heard_unix_ns
