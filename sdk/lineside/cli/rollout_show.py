"""How `lineside rollout` shows how far it is: a table that changes, lines, or lines of JSON."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from lineside.cli.table import format_table, printable
from lineside.closing import Closing

if TYPE_CHECKING:
    from lineside.fleet import Plan, Progress, Rollout, RolloutResult, RolloutState

_QUARTERS: Final = 4  # of a transfer, where each is a line
_AWAITED_S: Final = 5.0  # retained states take a moment; then it is worth a line
_REDRAW_S: Final = 0.25
_LINES_KEPT_FREE: Final = 5
_UP: Final = "\x1b[{}F"
_CLEAR_BELOW: Final = "\x1b[J"
_OUTCOMES: Final = {
    "confirmed": "confirmed by every station",
    "incomplete": "over; not every station has confirmed",
    "stopped": "stopped",
    "taken_back": "taken back: no station of this rollout has it",
    "going_on": "not over yet",
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """Of one station."""

    name: str
    before: Progress
    now: Progress

    @property
    def words(self) -> str:
        """What to say of it; ``""``: nothing that anybody would want to read."""
        before, now = self.before, self.now
        if now.undo is not before.undo:
            told = {"asked": "is to give the bundle back", "done": "has given the bundle back"}
            kept = f"does not give the bundle back: {now.undo_reason}"
            return told.get(now.undo.value, kept if now.undo_reason else "has nothing to give back")
        if now.phase is before.phase:
            return ""
        return f"{now.phase.value}: {now.reason}" if now.reason else now.phase.value


class Lines(Closing):
    """A line for each change, for people who read a log."""

    def __init__(self, plan: Plan, *, title: str, size_bytes: int) -> None:
        self._plan = plan
        self._title = title
        self._size_bytes = size_bytes
        self._wave = -1
        self._quarters: dict[str, int] = {}
        self._awaited_since_s: dict[str, float] = {}

    def close(self) -> None:
        """Nothing more comes."""

    def state(self, before: RolloutState, rollout: Rollout) -> None:
        """A line for each station that has changed, and one for a wave that begins between them."""
        after = rollout.state
        changes = [
            Change(name=name, before=before.stations[name], now=now)
            for name, now in after.stations.items()
        ]
        began = self._new_wave(rollout)
        for change in changes:
            if change.words and change.name not in began:
                self.station(change)
        if after.stopped and not before.stopped:
            self.stopped(after)
        self._tell_wave(rollout)
        for change in changes:
            if change.words and change.name in began:
                self.station(change)

    def tick(self, rollout: Rollout, sent_bytes: Mapping[str, int]) -> None:
        """A line for each quarter of a transfer, and for a station that is waited for."""
        self._tell_wave(rollout)
        for name, sent in sent_bytes.items():
            quarter = sent * _QUARTERS // self._size_bytes
            if quarter > self._quarters.get(name, 0):
                self._quarters[name] = quarter
                self.sent(name, sent)
        self._await(rollout.awaited)

    def _new_wave(self, rollout: Rollout) -> tuple[str, ...]:
        """Stations of a wave that was not told of yet."""
        wave = rollout.wave
        if wave == self._wave or wave == len(self._plan.waves) or rollout.state.stopped:
            return ()
        return self._plan.waves[wave].stations

    def _tell_wave(self, rollout: Rollout) -> None:
        if self._new_wave(rollout):
            self._wave = rollout.wave
            self.wave(self._wave)

    def _await(self, names: Sequence[str]) -> None:
        now_s, before = time.monotonic(), self._awaited_since_s
        self._awaited_since_s = {name: before.get(name, now_s) for name in names}
        for name, since_s in self._awaited_since_s.items():
            if now_s - since_s >= _AWAITED_S:
                self._awaited_since_s[name] = math.inf  # told
                self.awaited(name)

    def station(self, change: Change) -> None:
        """One has come to another phase."""
        self.line(f"{change.name}: {change.words}")

    def wave(self, index: int) -> None:
        """Another wave runs."""
        wave = self._plan.waves[index]
        self.line(f"{wave.name}: {_count(len(wave.stations))}")

    def sent(self, name: str, sent_bytes: int) -> None:
        """A station has so much of the bundle."""
        self.line(f"{name}: {100 * sent_bytes // self._size_bytes} %")

    def awaited(self, name: str) -> None:
        """A station is offline, and its wave waits for it."""
        self.line(f"{name}: offline; waiting for it")

    def stopped(self, state: RolloutState) -> None:
        """Nothing new is begun."""
        also = "; stations give the bundle back" if state.is_undoing else ""
        self.line(f"stopped: {state.stopped}{also}")

    def broker(self, words: str) -> None:
        """The connection is lost, or stands again."""
        self.line(f"broker: {words or 'connected again'}")

    def line(self, words: str) -> None:
        """With the time in front."""
        click.echo(f"{time.strftime('%H:%M:%S')} {printable(words)}")


class JsonLines(Lines):
    """An object a line, for programs; ``kind`` says of what."""

    def station(self, change: Change) -> None:
        """With phase, reason, undo and undo_reason."""
        now = change.now
        self._print(
            "station",
            station=change.name,
            phase=now.phase.value,
            reason=now.reason,
            undo=now.undo.value,
            undo_reason=now.undo_reason,
        )

    def wave(self, index: int) -> None:
        """With its name and how many stations it has."""
        wave = self._plan.waves[index]
        self._print("wave", wave=wave.name, stations=len(wave.stations))

    def sent(self, name: str, sent_bytes: int) -> None:
        """With bytes."""
        self._print("sent", station=name, bytes=sent_bytes, size=self._size_bytes)

    def awaited(self, name: str) -> None:
        """With its name."""
        self._print("offline", station=name)

    def stopped(self, state: RolloutState) -> None:
        """With why."""
        self._print("stopped", why=state.stopped, undoing=state.is_undoing)

    def broker(self, words: str) -> None:
        """With why; ``""``: it stands again."""
        self._print("broker", why=words)

    def _print(self, kind: str, **content: object) -> None:
        _print_json({"kind": kind, "t": time.time_ns() // 1_000_000, **content})


class LiveTable(Lines):
    """A table at the foot of a terminal, written anew; what is settled well takes no row."""

    def __init__(self, plan: Plan, *, title: str, size_bytes: int) -> None:
        super().__init__(plan, title=title, size_bytes=size_bytes)
        self._height = 0
        self._next_s = 0.0
        self._draw: tuple[Rollout, dict[str, int]] | None = None

    def close(self) -> None:
        """Leave the last one standing."""
        if self._draw is not None:
            self._write(self._rows(*self._draw))

    def tick(self, rollout: Rollout, sent_bytes: Mapping[str, int]) -> None:
        """Write it anew, a few times a second."""
        super().tick(rollout, {})
        self._draw = (rollout, dict(sent_bytes))
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _REDRAW_S
            self._write(self._rows(rollout, self._draw[1]))

    def station(self, change: Change) -> None:
        """Stands in the table; what went wrong stays above it as a line."""
        if change.now.is_failure or change.now.undo_reason:
            super().station(change)

    def line(self, words: str) -> None:
        """Above the table."""
        self._write([])
        super().line(words)

    def _rows(self, rollout: Rollout, sent_bytes: Mapping[str, int]) -> list[str]:
        from lineside.fleet import count_phases

        columns, lines = shutil.get_terminal_size()
        counts = count_phases(rollout.state.stations)
        head = ", ".join(f"{count} {phase}" for phase, count in counts.items())
        rows = [
            (name, _stand(it, sent_bytes.get(name), self._size_bytes))
            for name, it in rollout.state.stations.items()
            if it.is_running
        ]
        rows += [(name, "waiting, offline") for name in rollout.awaited]
        shown = rows[: max(lines - _LINES_KEPT_FREE, 1)]
        table = [f"{name:<{max(len(name) for name, _ in shown)}}  {words}" for name, words in shown]
        more = [f"… and {len(rows) - len(shown)} more"] if len(rows) > len(shown) else []
        return [printable(row)[: columns - 1] for row in (f"{self._title}: {head}", *table, *more)]

    def _write(self, rows: list[str]) -> None:
        up = _UP.format(self._height) if self._height else ""
        text = up + _CLEAR_BELOW + "".join(f"{row}\n" for row in rows)
        click.echo(text, nl=False, color=True)
        self._height = len(rows)


def open_show(plan: Plan, *, title: str, size_bytes: int, as_json: bool) -> Lines:
    """What fits where the words go."""
    if as_json:
        return JsonLines(plan, title=title, size_bytes=size_bytes)
    kind = LiveTable if sys.stdout is not None and sys.stdout.isatty() else Lines
    return kind(plan, title=title, size_bytes=size_bytes)


def print_plan(plan: Plan, *, title: str, bundle: str, as_json: bool) -> None:
    """Who comes when."""
    if as_json:
        from lineside.cli.document import format_document

        waves = [{"wave": wave.name, "stations": wave.stations} for wave in plan.waves]
        click.echo(format_document({"bundle": bundle, "waves": waves, "rest": plan.rest}))
        return
    rows = [(wave.name, name) for wave in plan.waves for name in wave.stations]
    rows += [("in no wave", name) for name in plan.rest]
    click.echo(f"{printable(title)} to {_count(len(plan.stations))}")
    click.echo(format_table(("wave", "station"), rows))


def print_result(result: RolloutResult, *, as_json: bool, words: str = "") -> None:
    """What became of it; of people's stations those that did not confirm."""
    if as_json:
        import msgspec

        _print_json({"kind": "result", **msgspec.to_builtins(result)})
        return
    from lineside.fleet import BY_HAND

    counts = ", ".join(f"{count} {phase}" for phase, count in result.counts.items())
    click.echo(f"{words}{_OUTCOMES[result.outcome]}: {counts}")
    if result.stopped:
        click.echo(f"why: {printable(result.stopped)}")
    rows = [
        tuple(map(printable, (each.station, each.phase.value, each.reason, each.undo_reason)))
        for each in result.stations
        if each.phase.value in ("failed", "reverted") or each.undo_reason
    ]
    head = ("station", "phase", "why", "did not give it back because")
    width = len(head) if any(row[-1] for row in rows) else len(head) - 1
    if rows:
        click.echo(format_table(head[:width], [row[:width] for row in rows]))
    if result.keeps:
        click.echo("where it was not given back: look after these stations by hand")
    if result.outcome in ("incomplete", "stopped") and result.stopped != BY_HAND:
        click.echo("once that is mended: the same command with --retry")


def _count(stations: int) -> str:
    return f"{stations} station{'s' if stations != 1 else ''}"


def _stand(it: Progress, sent_bytes: int | None, size_bytes: int) -> str:
    if it.undo_reason or it.undo.value:
        return f"{it.phase.value}, {it.undo.value or 'not yet asked back'} {it.undo_reason}".strip()
    if it.phase.value == "sending" and sent_bytes is not None:
        share = sent_bytes / size_bytes
        words = "verifying" if sent_bytes == size_bytes else f"{100 * share:3.0f} %"
        return f"sending {'█' * round(20 * share):<20} {words}"
    return f"{it.phase.value} {it.reason}".strip()


def _print_json(content: dict[str, Any]) -> None:
    import msgspec

    click.echo(msgspec.json.encode(content).decode("utf-8"))
