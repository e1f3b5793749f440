"""``lineside listen``: what a PLC would see."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.options import Seconds, json_option
from lineside.cli.table import format_figure

if TYPE_CHECKING:
    from lineside.mqtt import Message, MqttSettings, StateMessage, StationTopics, VerdictMessage

_TICK_S = 0.2
# Name and width of each column; figures to the right.
_COLUMNS = (
    *(("time", 12), ("station", 24), (">seq", 8), ("part", 20), ("evaluation", 13)),
    *((">score", 13), (">limit", 13), ("unit", 6), ("reason", 16), (">latency", 10)),
)


@click.command()
@click.argument("url", metavar="mqtt://HOST:PORT")
@click.option("--site", default="+", help="Only this site.")
@click.option("--line", default="+", help="Only this line.")
@click.option("--station", default="+", help="Only this station.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many verdicts.")
@click.option("--timeout-s", type=Seconds(), help="End after so many seconds.")
@click.option("--username", default="", help="User at the broker.")
@click.option("--password-file", type=click.Path(path_type=Path), help="First line: its password.")
@click.option("--password-env", default="", help="Environment variable with the password.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Authorities to trust (mqtts).")
@json_option
def listen(
    url: str,
    site: str,
    line: str,
    station: str,
    count: int | None,
    timeout_s: float | None,
    username: str,
    password_file: Path | None,
    password_env: str,
    ca_file: Path | None,
    as_json: bool,
) -> None:
    """Show verdicts as they arrive, each once, and say where the sequence has gaps.

    With --json each verdict, state and gap is one JSON object on a line of its own. With --count,
    hearing fewer within --timeout-s is exit code 8; so is a broker that is away at the end.

    Example: lineside listen mqtt://127.0.0.1:1883 --line line3 --count 100
    """
    settings = _settings(url, username, password_file, password_env, ca_file)
    filters = _filters(site, line, station)
    show = _JsonLines() if as_json else _Table()
    heard = _listen(settings, filters, show, count, timeout_s)
    if count is not None and heard < count:
        from lineside.errors import BrokerError

        raise BrokerError(
            f"{heard} of {count} verdicts within {timeout_s:g} s: is the station running, and does "
            "it publish to this broker?"
        )


def _settings(
    url: str, username: str, password_file: Path | None, password_env: str, ca_file: Path | None
) -> MqttSettings:
    from lineside.errors import ConfigurationError
    from lineside.mqtt import MqttSettings, parse_url

    parse_url(url, path="URL")
    try:
        settings = MqttSettings(
            url=url,
            username=username,
            password_file=password_file,
            password_env=password_env,
            ca_file=ca_file,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    settings.read_password()
    return settings


def _filters(site: str, line: str, station: str) -> tuple[str, ...]:
    from lineside.mqtt import check_topic_part, topic_filters

    for name, part in (("--site", site), ("--line", line), ("--station", station)):
        if part != "+":
            check_topic_part(part, path=name)
    return topic_filters(site=site, line=line, station=station)


class _Table:
    """A table that grows, for people."""

    def __init__(self) -> None:
        head = "  ".join(_cell(name, name.lstrip(">"), width) for name, width in _COLUMNS)
        click.echo(head + "\n" + "  ".join("-" * width for _, width in _COLUMNS))

    def verdict(self, topics: StationTopics, message: VerdictMessage) -> None:
        clock = _clock(message.t)
        cells = (
            clock,
            str(topics),
            str(message.seq),
            message.part or "-",
            message.evaluation.name,
            format_figure(message.score),
            format_figure(message.limit),
            message.unit,
            message.reason,
            f"{message.lat_us / 1000:.1f} ms",
        )
        rows = zip(_COLUMNS, cells, strict=True)
        click.echo("  ".join(_cell(name, cell, width) for (name, width), cell in rows).rstrip())

    def state(self, topics: StationTopics, message: StateMessage) -> None:
        why = f" ({message.reason})" if message.reason else ""
        limits = f", limits {message.limits}" if message.limits not in ("", "sealed") else ""
        line = (
            f"-- {topics} is {message.state.value}{why}, given {message.given}, "
            f"queue {message.queue}{limits}"
        )
        click.echo("".join(letter if letter.isprintable() else "?" for letter in line))

    def gap(self, topics: StationTopics, first: int, last: int) -> None:
        click.echo(f"-- {topics}: seq {first} to {last} missing")


class _JsonLines:
    """One object a line, for programs; `kind` tells which."""

    def verdict(self, topics: StationTopics, message: VerdictMessage) -> None:
        self._line("verdict", topics, message)

    def state(self, topics: StationTopics, message: StateMessage) -> None:
        self._line("state", topics, message)

    def gap(self, topics: StationTopics, first: int, last: int) -> None:
        self._line("gap", topics, {"first": first, "last": last})

    def _line(self, kind: str, topics: StationTopics, message: object) -> None:
        import msgspec

        who = {"site": topics.site, "line": topics.line, "station": topics.station}
        body = msgspec.to_builtins(message)
        click.echo(msgspec.json.encode({"kind": kind, **who, **body}).decode("utf-8"))


def _say(words: str) -> None:
    click.echo(f"lineside: {words}", err=True)


def _clock(unix_ms: int) -> str:
    """Time of day; another publisher's time may be none at all."""
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(unix_ms / 1000))
    except (OverflowError, ValueError, OSError):
        return "-"
    return f"{clock}.{unix_ms % 1000:03d}"


def _cell(name: str, text: str, width: int) -> str:
    # Anybody may publish: what steers a terminal is shown, not done.
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text.rjust(width) if name.startswith(">") else text.ljust(width)


def _listen(
    settings: MqttSettings,
    filters: tuple[str, ...],
    show: _Table | _JsonLines,
    count: int | None,
    timeout_s: float | None,
) -> int:
    """Until enough was heard, the time is over, or Ctrl-C; a broker that goes is waited for."""
    from lineside.errors import BrokerError, BrokerRefusedError
    from lineside.mqtt import Receiver

    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    floor = _Floor(show)
    told, ready = "", f"listening on {settings.url}"
    with Receiver(settings, filters) as receiver:
        while deadline_s is None or time.monotonic() < deadline_s:
            try:
                messages = receiver.receive(_TICK_S)
                if receiver.listening and told != ready:
                    told = ready
                    _say(told)
                for message in messages:
                    floor.take(message)
                    if floor.heard == count:
                        return floor.heard
            except BrokerRefusedError:
                raise
            except BrokerError as error:
                if str(error) != told:
                    _say(f"{error}; trying again")
                told = str(error)
                time.sleep(_TICK_S)
    if told not in ("", ready):
        raise BrokerError(told)  # the time is over, and the broker was not there at its end
    return floor.heard


class _Floor:
    """Sorts what is heard; counts each verdict once."""

    def __init__(self, show: _Table | _JsonLines) -> None:
        from lineside.mqtt import Hearing

        self.heard = 0
        self._show = show
        self._hearing = Hearing()

    def take(self, message: Message) -> None:
        """Show one message; one that is not ours is named and passed over."""
        from lineside.errors import InputDataError
        from lineside.mqtt import decode_state, decode_verdict, parse_topic

        found = parse_topic(message.topic)
        if found is None or not message.payload:
            return  # an empty retained state: somebody cleared it
        station, kind = found
        try:
            if kind == "state":
                self._show.state(station, decode_state(message.payload, source=message.topic))
            else:
                self._verdict(station, decode_verdict(message.payload, source=message.topic))
        except InputDataError as error:
            _say(str(error))

    def _verdict(self, station: StationTopics, verdict: VerdictMessage) -> None:
        heard = self._hearing.hear(station, verdict)
        if heard.is_repeated:
            return
        if heard.missing is not None:
            self._show.gap(station, *heard.missing)
        self.heard += 1
        self._show.verdict(station, verdict)
