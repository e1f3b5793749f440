"""``lineside listen``: what a PLC would see, or do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.options import Seconds, json_option

if TYPE_CHECKING:
    from lineside.cli.listen_plc import PlcSettings
    from lineside.mqtt import MqttSettings, Receiver

_TICK_S = 0.2
_TOPICS = ("verdict", "verdict/bin", "history", "findings", "state", "health", "ack")
_USUAL_TOPICS = ("verdict", "history", "state")


@click.command()
@click.argument("url", metavar="mqtt://HOST:PORT")
@click.option("--site", default="+", help="Only this site.")
@click.option("--line", default="+", help="Only this line.")
@click.option("--station", default="+", help="Only this station.")
@click.option(
    "--topic",
    "topics",
    type=click.Choice(_TOPICS),
    multiple=True,
    help=f"What to show; may be given again. Without it: {', '.join(_USUAL_TOPICS)}.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many verdicts.")
@click.option("--timeout-s", type=Seconds(), help="End after so many seconds.")
@click.option("--plc", is_flag=True, help="Judge as the function block of docs/plc does.")
@click.option("--binary", is_flag=True, help="With --plc: hear verdict/bin instead of verdict.")
@click.option("--trigger", "parts", multiple=True, help="With --plc: present this part.")
@click.option("--trigger-every", type=Seconds(), help="With --plc: present a part so often, s.")
@click.option(
    "--timeout-ms",
    type=click.IntRange(1, 3_600_000),
    default=1000,
    show_default=True,
    help="With --plc: from the trigger to the verdict at most.",
)
@click.option("--no-clock", is_flag=True, help="With --plc: as one without synchronised clock.")
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
    topics: tuple[str, ...],
    count: int | None,
    timeout_s: float | None,
    plc: bool,
    binary: bool,
    parts: tuple[str, ...],
    trigger_every: float | None,
    timeout_ms: int,
    no_clock: bool,
    username: str,
    password_file: Path | None,
    password_env: str,
    ca_file: Path | None,
    as_json: bool,
) -> None:
    """Show verdicts as they arrive, each once, and say where the sequence has gaps.

    With --json each message and gap is one JSON object on a line of its own; `kind` is its topic.
    With --count, hearing fewer within --timeout-s is exit code 8; so is a broker that is away at
    the end.

    With --plc it does what the function block of docs/plc does in a PLC, beside one station: it
    drops what is malformed, repeated or stale, watches the heartbeat, and says for each part what
    would be put out. With --trigger or --trigger-every it presents parts by cmd/trigger and waits
    for their verdicts; without, it takes each verdict as that of a part that is just there.

    Example: lineside listen mqtt://127.0.0.1:1883 --line line3 --count 100

    Example: lineside listen mqtt://127.0.0.1 --plc --site plant1 --line line3 --station aoi1
    --trigger LED-000317
    """
    settings = _settings(url, username, password_file, password_env, ca_file)
    _check_names(site, line, station)
    if plc:
        if topics:
            raise click.UsageError("--topic and --plc cannot be given together")
        told = _plc_settings(parts, trigger_every, timeout_ms, binary, has_clock=not no_clock)
        heard = _simulate(settings, (site, line, station), told, count, timeout_s, as_json)
    elif binary or parts or trigger_every is not None or no_clock:
        raise click.UsageError("--binary, --trigger, --trigger-every and --no-clock need --plc")
    else:
        heard = _show(settings, (site, line, station), topics, count, timeout_s, as_json)
    if count is not None and heard < count:
        from lineside.errors import BrokerError

        raise BrokerError(
            f"{heard} of {count} verdicts within {timeout_s or 0:g} s: is the station running, and "
            "does it publish to this broker?"
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


def _check_names(site: str, line: str, station: str) -> None:
    from lineside.mqtt import check_topic_part

    for name, part in (("--site", site), ("--line", line), ("--station", station)):
        if part != "+":
            check_topic_part(part, path=name)


def _plc_settings(
    parts: tuple[str, ...],
    every_s: float | None,
    timeout_ms: int,
    binary: bool,
    *,
    has_clock: bool,
) -> PlcSettings:
    from lineside.cli.listen_plc import PlcSettings
    from lineside.mqtt.payload import wire_part_id

    for part in parts:
        if not part or wire_part_id(part) != part:
            raise click.BadParameter(
                f"{part!r}: a part id has 1 to 32 printable ASCII characters, no quote and no "
                "backslash",
                param_hint="--trigger",
            )
    return PlcSettings(
        parts=parts, every_s=every_s, timeout_ms=timeout_ms, binary=binary, has_clock=has_clock
    )


def _show(
    settings: MqttSettings,
    names: tuple[str, str, str],
    topics: tuple[str, ...],
    count: int | None,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    from lineside.cli.listen_show import Floor, JsonLines, Table
    from lineside.mqtt import topic_filters

    floor = Floor(JsonLines() if as_json else Table())
    site, line, station = names
    kinds = topics or _USUAL_TOPICS

    def step(receiver: Receiver) -> bool:
        for message in receiver.receive(_TICK_S):
            floor.take(message)
            if floor.heard == count:
                return False
        return True

    filters = topic_filters(site=site, line=line, station=station, kinds=kinds)
    _follow(settings, filters, step, timeout_s)
    return floor.heard


def _simulate(
    settings: MqttSettings,
    names: tuple[str, str, str],
    told: PlcSettings,
    count: int | None,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    from lineside.cli.listen_plc import PlcJsonLines, PlcSimulator, PlcTable
    from lineside.mqtt import StationTopics

    if "+" in names:
        raise click.UsageError("--plc stands beside one station: give --site, --line, --station")
    site, line, station = names
    topics = StationTopics(site=site, line=line, station=station)
    show = PlcJsonLines(topics) if as_json else PlcTable()
    simulator = PlcSimulator(topics=topics, settings=told, show=show)

    def step(receiver: Receiver) -> bool:
        goes_on = simulator.step(receiver)
        return goes_on and simulator.turns != count

    _follow(settings, simulator.filters, step, timeout_s, away=simulator.cycle)
    return simulator.turns


def _follow(
    settings: MqttSettings,
    filters: tuple[str, ...],
    step: Callable[[Receiver], bool],
    timeout_s: float | None,
    *,
    away: Callable[[], None] = lambda: None,
) -> None:
    """Until ``step`` says no, the time is over, or Ctrl-C; a broker that goes is waited for."""
    from lineside.errors import BrokerError, BrokerRefusedError
    from lineside.mqtt import Receiver

    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    told, ready = "", f"listening on {settings.url}"
    with Receiver(settings, filters) as receiver:
        while deadline_s is None or time.monotonic() < deadline_s:
            try:
                goes_on = step(receiver)
                if receiver.listening and told != ready:
                    told = ready
                    _say(told)
                if not goes_on:
                    return
            except BrokerRefusedError:
                raise
            except BrokerError as error:
                if str(error) != told:
                    _say(f"{error}; trying again")
                told = str(error)
                away()
                time.sleep(_TICK_S)
    if told not in ("", ready):
        raise BrokerError(told)  # the time is over, and the broker was not there at its end


def _say(words: str) -> None:
    click.echo(f"lineside: {words}", err=True)
