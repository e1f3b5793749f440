"""What was given against what was received: the one question after every fault. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lineside.errors import InputDataError
from lineside.mqtt import decode_verdict
from lineside.verdict import Evaluation

_SHOWN = 5


class Delivery(NamedTuple):
    """One message as the broker handed it to a receiver.

    Attributes:
        kind: the topic's last part, ``verdict`` or ``history``.
        payload: its bytes.
    """

    kind: str
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a receiver can say after the last delivery.

    Attributes:
        given: verdicts that the outbox says it made durable.
        parts: that were presented to the station.
        deliveries: messages received, repeated ones too, by topic.
        distinct: ids received.
        missing: sequence numbers up to ``given`` that nobody received.
        beyond: sequence numbers received that the outbox never gave.
        unreadable: deliveries that are no verdict.
        changed: ids received with more than one content.
        shared: sequence numbers received under more than one id.
        unordered: by topic, ids whose first delivery came after one of a higher sequence number.
        unheard: parts without a verdict.
        twice: parts with more than one verdict.
        unknown: parts received that were never presented.
        escaped: bad parts that were ever called OK.
    """

    given: int
    parts: int
    deliveries: dict[str, int]
    distinct: int
    missing: tuple[int, ...]
    beyond: tuple[int, ...]
    unreadable: tuple[bytes, ...]
    changed: tuple[str, ...]
    shared: tuple[int, ...]
    unordered: dict[str, tuple[str, ...]]
    unheard: tuple[str, ...]
    twice: tuple[str, ...]
    unknown: tuple[str, ...]
    escaped: tuple[str, ...]

    @property
    def repeated(self) -> int:
        """Deliveries beyond the first of each id."""
        return sum(self.deliveries.values()) - len(self.unreadable) - self.distinct

    @property
    def faults(self) -> list[str]:
        """In words, with the first few of each kind; empty when everything is as promised."""
        kinds: dict[str, Sequence[object]] = {
            "sequence numbers never received": self.missing,
            "sequence numbers that the outbox does not know": self.beyond,
            "deliveries that are no verdict": self.unreadable,
            "ids with two contents": self.changed,
            "sequence numbers under two ids": self.shared,
            "parts without a verdict": self.unheard,
            "parts with two verdicts": self.twice,
            "parts that were never presented": self.unknown,
            "bad parts called OK": self.escaped,
        }
        kinds |= {f"out of order on {kind}": ids for kind, ids in self.unordered.items()}
        return [
            f"{len(found)} {words}: {', '.join(map(str, found[:_SHOWN]))}"
            for words, found in kinds.items()
            if found
        ]


def take_account(
    deliveries: Iterable[Delivery],
    *,
    given: int,
    parts: Sequence[str],
    bad: Container[str] = (),
) -> Account:
    """Hold what came against what was given.

    Args:
        deliveries: in the order of arrival, those of ``verdict`` and ``history``.
        given: what the outbox counts.
        parts: ids of those presented, each once.
        bad: of these, the ones that must never be OK.
    """
    counts: dict[str, int] = defaultdict(int)
    first: dict[str, bytes] = {}
    unreadable: list[bytes] = []
    changed: dict[str, None] = {}
    escaped: dict[str, None] = {}
    ids_of_seq: dict[int, set[str]] = defaultdict(set)
    ids_of_part: dict[str, set[str]] = defaultdict(set)
    highest: dict[str, int] = defaultdict(int)
    unordered: dict[str, list[str]] = defaultdict(list)
    for kind, payload in deliveries:
        counts[kind] += 1
        try:
            message = decode_verdict(payload, source=kind)
        except InputDataError:
            unreadable.append(payload)
            continue
        if message.id in first:
            if first[message.id] != payload:
                changed[message.id] = None
            continue
        first[message.id] = payload
        if message.evaluation is Evaluation.OK and message.part in bad:
            escaped[message.part] = None
        ids_of_seq[message.seq].add(message.id)
        ids_of_part[message.part].add(message.id)
        if message.seq < highest[kind]:
            unordered[kind].append(message.id)
        highest[kind] = max(highest[kind], message.seq)
    presented = set(parts)
    return Account(
        given=given,
        parts=len(parts),
        deliveries=dict(counts),
        distinct=len(first),
        missing=tuple(seq for seq in range(1, given + 1) if seq not in ids_of_seq),
        beyond=tuple(sorted(seq for seq in ids_of_seq if not 1 <= seq <= given)),
        unreadable=tuple(unreadable),
        changed=tuple(changed),
        shared=tuple(sorted(seq for seq, ids in ids_of_seq.items() if len(ids) > 1)),
        unordered={kind: tuple(ids) for kind, ids in unordered.items()},
        unheard=tuple(sorted(presented - set(ids_of_part))),
        twice=tuple(sorted(part for part, ids in ids_of_part.items() if len(ids) > 1)),
        unknown=tuple(sorted(set(ids_of_part) - presented)),
        escaped=tuple(escaped),
    )
