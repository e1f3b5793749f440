"""``lineside command``: tell a station what to do, signed, and wait until it is done."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineside.cli.calling import (
    CHUNK_KIB,
    TIMEOUT_S,
    Calling,
    StationName,
    calling_options,
)
from lineside.cli.options import Finite, Seconds, json_option

if TYPE_CHECKING:
    from lineside.mqtt import StationTopics
    from lineside.remote import Scalar

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def command() -> None:
    """Tell a station what to do, and wait until it is done.

    Each command is signed by a key that the station trusts for it ([[commands.keys]] of its file),
    and answered by the station alone: done and durable, or refused in its own words. An answer
    that is lost is asked for again; the station does it once.

    Exit codes: 0 done, 8 no answer in time or no broker, 9 the station said no.
    """


def _station_options(verb: _Command) -> _Command:
    """Add what every command has; the verb gets `station`, `timeout_s` and `as_json` besides."""
    options = (
        click.option(
            "--station", required=True, type=StationName(), metavar="SITE/LINE/NAME", help="Who."
        ),
        calling_options,
        click.option(
            "--timeout-s",
            type=Seconds(),
            default=TIMEOUT_S,
            show_default=True,
            help="Without an answer for so long it is given up.",
        ),
        json_option,
    )
    return functools.reduce(lambda inner, option: option(inner), reversed(options), verb)


@command.command()
@_station_options
@click.option("--part", default="", help="The physical part that stands there.")
@click.option("--product", default="", help="Which bundle judges it; default: the one in use.")
def trigger(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    part: str,
    product: str,
) -> None:
    """Have a part inspected.

    Example: lineside command trigger --station plant1/line3/aoi1 --broker mqtt://broker
    --key op.key --part LED-000317
    """
    _tell(calling, station, "trigger", {"part": part, "product": product}, timeout_s, as_json)


@command.command()
@_station_options
def pause(station: StationTopics, calling: Calling, timeout_s: float, as_json: bool) -> None:
    """Inspect nothing until resume.

    Every part is NOT_DECIDABLE meanwhile.

    Example: lineside command pause --station plant1/line3/aoi1 --broker mqtt://broker --key op.key
    """
    _tell(calling, station, "pause", {}, timeout_s, as_json)


@command.command()
@_station_options
def resume(station: StationTopics, calling: Calling, timeout_s: float, as_json: bool) -> None:
    """Inspect again.

    Example: lineside command resume --station plant1/line3/aoi1 --broker mqtt://broker --key op.key
    """
    _tell(calling, station, "resume", {}, timeout_s, as_json)


@command.command("set-limit")
@_station_options
@click.option("--ok", type=Finite(), help="Up to here a part is OK, in the rule's unit.")
@click.option("--not-ok", type=Finite(), help="From here on a part is NOT_OK.")
@click.option("--product", default="", help="Whose limits; default: of the one in use.")
@click.option("--bundle", default="", help="The bundle they are for; default: as the station says.")
@click.option("--reset", is_flag=True, help="Back to what the station's file has.")
def set_limit(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    ok: float | None,
    not_ok: float | None,
    product: str,
    bundle: str,
    reset: bool,
) -> None:
    """Judge more strictly.

    For as long as this bundle is in use: limits belong to a bundle, so the hash of the one that the
    station says it uses goes with them, and a station that has changed over meanwhile refuses
    them.

    Example: lineside command set-limit --station plant1/line3/aoi1 --broker mqtt://broker
    --key op.key --not-ok 3.2
    """
    from lineside.cli.command_calls import give, tell, wait_for_bundle

    if reset == (ok is not None or not_ok is not None):
        raise click.UsageError("give --ok, --not-ok or both; or --reset alone")
    args: dict[str, Scalar] = {"product": product}
    with calling.open(patience=_patience(timeout_s)) as caller:
        if reset:
            args["reset"] = True
        else:
            found = bundle or wait_for_bundle(caller, station, product, timeout_s)
            args |= {"bundle": found, "ok": ok, "not_ok": not_ok}
        tell(give(caller, station, "set-limit", args, as_json=as_json), as_json=as_json)


@command.command("range")
@_station_options
@click.option("--first", type=click.IntRange(min=1), required=True, help="Its seq.")
@click.option("--last", type=click.IntRange(min=1), required=True, help="Its seq.")
def verdict_range(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    first: int,
    last: int,
) -> None:
    """Have verdicts published once more.

    They come on the history topic; at most 1,000.

    Example: lineside command range --station plant1/line3/aoi1 --broker mqtt://broker --key op.key
    --first 1200 --last 1300
    """
    _tell(calling, station, "range", {"first": first, "last": last}, timeout_s, as_json)


@command.command()
@_station_options
@click.option("--product", required=True, help="The one that follows.")
def changeover(
    station: StationTopics, calling: Calling, timeout_s: float, as_json: bool, product: str
) -> None:
    """From now on parts are of another product.

    Example: lineside command changeover --station plant1/line3/aoi1 --broker mqtt://broker
    --key op.key --product led-b
    """
    _tell(calling, station, "changeover", {"product": product}, timeout_s, as_json)


@command.command()
@_station_options
@click.argument("file", required=False, metavar="[FILE.LSB]", type=click.Path(path_type=Path))
@click.option("--url", default="", metavar="NAME", help="Below the station's commands.url.")
@click.option("--sha256", metavar="HEX", help="With --url and no file: of the whole file.")
@click.option("--product", default="", help="Whose store; default: of the one in use.")
@click.option(
    "--chunk-kib",
    type=click.IntRange(1, 1024),
    default=CHUNK_KIB,
    show_default=True,
    help="Size of a message, KiB; smaller where the broker limits it.",
)
@click.option("--wait", is_flag=True, help="Wait until it is confirmed, or reverted.")
@click.option("--wait-timeout-s", type=Seconds(), help="With --wait: so long at most.")
def install(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    file: Path | None,
    url: str,
    sha256: str | None,
    product: str,
    chunk_kib: int,
    wait: bool,
    wait_timeout_s: float | None,
) -> None:
    """Send a bundle, to be proved and tried there.

    What was sent once is not sent again: after a loss of the broker, the station or this program
    the same command goes on where it was. With --url the station downloads it by itself. The
    station answers once it has verified it and its golden self-test has held there; it tries it
    next.

    --timeout-s is how long the station may be silent, not how long it may take.

    Example: lineside command install joint.lsb --station plant1/line3/aoi1 --broker mqtt://broker
    --key op.key --wait
    """
    from lineside.cli.command_install import Installing, install_bundle

    if wait_timeout_s is not None and not wait:
        raise click.UsageError("--wait-timeout-s needs --wait")
    if (file is None) == (sha256 is None) or (file is None and not url):
        raise click.UsageError("give FILE.LSB, or --url with --sha256")
    told = Installing(
        file=file,
        url=url,
        sha256=sha256 or "",
        product=product,
        wait=wait,
        wait_timeout_s=wait_timeout_s,
    )
    with calling.open(patience=_patience(timeout_s), chunk_kib=chunk_kib) as caller:
        install_bundle(caller, station, told, as_json=as_json)


@command.command()
@_station_options
@click.option("--product", default="", help="Whose; default: of the one in use.")
@click.option("--bundle", default="", metavar="HASH", help="Only where this one is on trial.")
def confirm(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    product: str,
    bundle: str,
) -> None:
    """Confirm the bundle on trial.

    It is what a revert goes back to from now on. With --bundle, its hash or the first 16 digits of
    it, a station on which another one has come on trial meanwhile refuses.

    Example: lineside command confirm --station plant1/line3/aoi1 --broker mqtt://broker
    --key op.key --bundle bba48afdf8e68dd8
    """
    args = {"product": product, "bundle": bundle}
    _tell(calling, station, "confirm", args, timeout_s, as_json)


@command.command()
@_station_options
@click.option("--product", default="", help="Whose; default: of the one in use.")
@click.option("--reason", default="command", show_default=True, help="A word; the store keeps it.")
@click.option("--bundle", default="", metavar="HASH", help="Only where this one would be left.")
def revert(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    product: str,
    reason: str,
    bundle: str,
) -> None:
    """Back to the bundle before.

    With --bundle, its hash or the first 16 digits of it, a station that would leave another one
    refuses.

    Example: lineside command revert --station plant1/line3/aoi1 --broker mqtt://broker --key op.key
    --reason overkill --bundle bba48afdf8e68dd8
    """
    args = {"product": product, "reason": reason, "bundle": bundle}
    _tell(calling, station, "revert", args, timeout_s, as_json)


@command.command()
@_station_options
@click.option("--verdict", default="", help="The verdict's id; or --part.")
@click.option("--part", default="", help="The physical part.")
@click.option(
    "--evaluation", required=True, type=click.Choice(["ok", "not-ok"]), help="What a human says."
)
@click.option("--defect", default="", help="Which kind.")
@click.option("--by", default="", help="Who looked.")
@click.option("--note", default="", help="In words.")
def disposition(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    verdict: str,
    part: str,
    evaluation: str,
    defect: str,
    by: str,
    note: str,
) -> None:
    """Say what a human found.

    Example: lineside command disposition --station plant1/line3/aoi1 --broker mqtt://broker
    --key op.key --part LED-000317 --evaluation not-ok --defect void
    """
    args: dict[str, Scalar] = {
        "verdict": verdict,
        "part": part,
        "evaluation": 1 if evaluation == "ok" else 2,
        "defect": defect,
        "by": by,
        "note": note,
    }
    _tell(calling, station, "disposition", args, timeout_s, as_json)


@command.command()
@_station_options
@click.option("--product", default="", help="Whose alarms; default: all.")
@click.option("--by", default="", help="Who mended it.")
@click.option("--note", default="", help="In words.")
def mended(
    station: StationTopics,
    calling: Calling,
    timeout_s: float,
    as_json: bool,
    product: str,
    by: str,
    note: str,
) -> None:
    """Take back alarms of drift: it was mended.

    Example: lineside command mended --station plant1/line3/aoi1 --broker mqtt://broker --key op.key
    --note "lamp replaced"
    """
    args: dict[str, Scalar] = {"product": product, "by": by, "note": note}
    _tell(calling, station, "mended", args, timeout_s, as_json)


def _tell(
    calling: Calling,
    station: StationTopics,
    verb: str,
    args: Mapping[str, Scalar],
    timeout_s: float,
    as_json: bool,
) -> None:
    from lineside.cli.command_calls import give, tell

    with calling.open(patience=_patience(timeout_s)) as caller:
        tell(give(caller, station, verb, args, as_json=as_json), as_json=as_json)


def _patience(timeout_s: float) -> Any:
    from lineside.remote.conversation import Patience

    return Patience().with_answer(timeout_s)
