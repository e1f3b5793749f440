"""Many sensors: one first, the others only after it has confirmed; stop at the first fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum

from lineside.errors import LinesideError
from lineside_bridge.errors import GangStoppedError
from lineside_bridge.flash_report import FlashReport


class Fate(str, Enum):
    """What became of one sensor."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    UNTOUCHED = "untouched"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One sensor.

    Attributes:
        error: why it failed.
    """

    port: str
    fate: Fate
    report: FlashReport | None = None
    error: LinesideError | None = None


@dataclass(kw_only=True)
class Halt:
    """Says to all that one has failed."""

    event: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Go on only while none has.

        Raises:
            GangStoppedError: one has.
        """
        if self.event.is_set():
            raise GangStoppedError("another sensor failed, and this one was left as it was")


FlashOne = Callable[[str, Halt], FlashReport]


def flash_gang(
    ports: Sequence[str],
    flash_one: FlashOne,
    *,
    at_once: int,
    on_member: Callable[[Member], None] = lambda _: None,
) -> tuple[Member, ...]:
    """Flash the first, and when it is done the others.

    Args:
        ports: in this order; the first is the canary.
        flash_one: brings the bundle into one; asks `Halt.check` before anything that counts.
        at_once: how many of the others at a time.
        on_member: told of each when it has come to its end; from several threads.

    Returns:
        One for each port, in their order.
    """
    halt = Halt()

    def run(port: str) -> Member:
        member = _run(port, flash_one, halt)
        on_member(member)
        return member

    canary = run(ports[0])
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="lineside-gang") as pool:
        try:
            others = list(pool.map(run, ports[1:]))
        except BaseException:  # an interrupt: the others must hear of it, or the pool never ends
            halt.event.set()
            raise
    return (canary, *others)


def _run(port: str, flash_one: FlashOne, halt: Halt) -> Member:
    if halt.event.is_set():
        return Member(port=port, fate=Fate.UNTOUCHED)
    try:
        return Member(port=port, fate=Fate.DONE, report=flash_one(port, halt))
    except GangStoppedError:
        return Member(port=port, fate=Fate.STOPPED)
    except LinesideError as error:
        halt.event.set()
        return Member(port=port, fate=Fate.FAILED, error=error)
