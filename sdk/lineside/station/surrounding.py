"""What a running station is to the keepers of its stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lineside.station.hanging import leave_hung
from lineside.station.slotwords import Surroundings
from lineside.station.turn import Turn
from lineside.verdict import Reason

if TYPE_CHECKING:
    from lineside.station.loop import Station

# systemd counts from the last beat it heard, which may be half of its limit before the hang began.
_OF_WATCHDOG: Final = 0.4
_LAST_WORDS_S: Final = 2.0


def surroundings(station: Station) -> Surroundings:
    """Of a station whose health is known."""
    health = station.health
    watchdog_s = None if health is None else health.notifier.watchdog_s
    return Surroundings(
        note=station.outbox.note,
        blamed=lambda words: _blame(station, words),
        changed=station.publisher.wake,
        rests=lambda: not station.judge.busy and not len(station.backlog),
        leave=lambda turn, words: _leave(station, turn, words),
        hang_limit_s=float("inf") if watchdog_s is None else _OF_WATCHDOG * watchdog_s,
    )


def _blame(station: Station, words: str) -> None:
    if station.health is not None:
        station.health.monitor.faults.note("slots", words)


def _leave(station: Station, turn: Turn, words: str) -> None:
    """The inspection's thread is inside an engine for good; the line hears of what is lost."""
    station.stop()
    left: Turn | None = turn
    while left is not None:
        if not left.comes_again:
            product = station.judge.product_of(left)
            station.giver.give_fault(left, product, Reason.ENGINE, words)
        left = station.backlog.take(0.0)
    station.outbox.flush(_LAST_WORDS_S)
    leave_hung(words)
