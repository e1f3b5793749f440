"""How `lineside listen` shows what it hears: a table for people, lines of JSON for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from lineside.cli.table import format_figure, printable

if TYPE_CHECKING:
    from lineside.mqtt import Message, StateMessage, StationTopics, VerdictMessage

# Name and width of each column; figures to the right.
_COLUMNS: Final = (
    *(("time", 12), ("station", 24), (">seq", 8), ("part", 20), ("evaluation", 13)),
    *((">score", 13), (">limit", 13), ("unit", 6), ("reason", 16), (">valid for", 10)),
)
_SHOWN_CHARS: Final = 200


class Table:
    """A table that grows, for people."""

    def __init__(self) -> None:
        head = "  ".join(cell(name, name.lstrip(">"), width) for name, width in _COLUMNS)
        click.echo(head + "\n" + "  ".join("-" * width for _, width in _COLUMNS))

    def verdict(self, kind: str, topics: StationTopics, message: VerdictMessage) -> None:
        """One row; of a part that has expired, marked."""
        cells = (
            clock(message.t),
            str(topics),
            str(message.seq),
            message.part or "-",
            message.evaluation.name,
            format_figure(message.score),
            format_figure(message.limit),
            message.unit,
            message.reason,
            "expired" if kind == "history" else f"{(message.exp - message.t) / 1000:g} s",
        )
        rows = zip(_COLUMNS, cells, strict=True)
        click.echo("  ".join(cell(name, text, width) for (name, width), text in rows).rstrip())

    def state(self, topics: StationTopics, message: StateMessage) -> None:
        """A line between the rows."""
        why = f" ({message.reason})" if message.reason else ""
        limits = f", limits {message.limits}" if message.limits not in ("", "sealed") else ""
        line = (
            f"-- {topics} is {message.state.value}{why}, given {message.given}, "
            f"queue {message.queue}{limits}"
        )
        click.echo(cell("", line, 0))

    def gap(self, topics: StationTopics, first: int, last: int) -> None:
        """Likewise."""
        click.echo(f"-- {topics}: seq {first} to {last} missing")

    def other(self, kind: str, topics: StationTopics, body: object) -> None:
        """Likewise; long ones are cut."""
        import msgspec

        text = msgspec.json.encode(body).decode("utf-8")
        text = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
        click.echo(cell("", f"-- {topics} {kind}: {text}", 0))


class JsonLines:
    """One object a line, for programs; `kind` is the topic, or ``gap``."""

    def verdict(self, kind: str, topics: StationTopics, message: VerdictMessage) -> None:
        """The wire's keys beside the station's."""
        self._line(kind, topics, message)

    def state(self, topics: StationTopics, message: StateMessage) -> None:
        """Likewise."""
        self._line("state", topics, message)

    def gap(self, topics: StationTopics, first: int, last: int) -> None:
        """The first and the last number that is missing."""
        self._line("gap", topics, {"first": first, "last": last})

    def other(self, kind: str, topics: StationTopics, body: object) -> None:
        """Whole, as ``message``."""
        self._line(kind, topics, {"message": body})

    def _line(self, kind: str, topics: StationTopics, message: object) -> None:
        import msgspec

        who = {"site": topics.site, "line": topics.line, "station": topics.station}
        body: dict[str, Any] = msgspec.to_builtins(message)
        click.echo(msgspec.json.encode({"kind": kind, **who, **body}).decode("utf-8"))


class Floor:
    """Sorts what is heard; counts each verdict once, whichever topic brought it."""

    def __init__(self, show: Table | JsonLines) -> None:
        from lineside.mqtt import Hearing

        self.heard = 0
        self._show = show
        self._hearing = Hearing()

    def take(self, message: Message) -> None:
        """Show one message; one that is not ours is named and passed over."""
        from lineside.errors import InputDataError
        from lineside.mqtt import parse_topic

        found = parse_topic(message.topic)
        if found is None or not message.payload:
            return  # an empty retained state: somebody cleared it
        try:
            self._sort(*found, message)
        except InputDataError as error:
            click.echo(f"lineside: {error}", err=True)

    def _sort(self, station: StationTopics, kind: str, message: Message) -> None:
        from lineside.mqtt import decode_state, decode_verdict
        from lineside.mqtt.binary import unpack_verdict

        data, source = message.payload, message.topic
        if kind in ("verdict", "history"):
            self._verdict(kind, station, decode_verdict(data, source=source))
        elif kind == "verdict/bin":
            self._verdict(kind, station, unpack_verdict(data, source=source))
        elif kind == "state":
            self._show.state(station, decode_state(data, source=source))
        else:
            self._show.other(kind, station, _decode_any(data, source))

    def _verdict(self, kind: str, station: StationTopics, verdict: VerdictMessage) -> None:
        heard = self._hearing.hear(station, verdict)
        if heard.is_repeated:
            return
        if heard.missing is not None:
            self._show.gap(station, *heard.missing)
        self.heard += 1
        self._show.verdict(kind, station, verdict)


def _decode_any(data: bytes, source: str) -> object:
    import msgspec

    from lineside.errors import InputDataError

    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputDataError(f"{source}: no JSON: {error}") from error


def clock(unix_ms: int) -> str:
    """Time of day; another publisher's time may be none at all."""
    try:
        told = time.strftime("%H:%M:%S", time.localtime(unix_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return "-"
    return f"{told}.{unix_ms % 1000:03d}"


def cell(name: str, text: str, width: int) -> str:
    """A cell of a column; ``>`` in front of its name sets it to the right."""
    text = printable(text)
    return text.rjust(width) if name.startswith(">") else text.ljust(width)
