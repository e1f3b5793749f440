"""How fast a bundle goes into a sensor over a serial line, as a share of what the framing carries.

A simulated sensor, a process of its own, paces its line to the rate; it starts empty, so that every
byte has to be sent.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lineside.cli.options import json_option
from lineside.cli.table import format_table
from lineside_bench.drawing import new_figure
from lineside_bench.options import out_option, quick_option, suite_argument
from lineside_bench.record import circumstances, publish
from lineside_bench.suite import Suite, read_suite
from lineside_bench.verb import verb_command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL: Final = ("small_cnn", "int8")
FRAMINGS: Final = ("console", "raw", "cobs")
PROMISED_SHARE: Final = 0.95
_ENGINE: Final = "onnxruntime"
# At the slow rate a line is nearly idle: so many at once disturb nobody.
_AT_ONCE: Final = 3
_END_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One way to bring a bundle in."""

    baud: int
    framing: str
    buffer_bytes: int


FULL: Final = (
    *(Line(baud=115_200, framing=framing, buffer_bytes=2048) for framing in FRAMINGS),
    *(
        Line(baud=921_600, framing=framing, buffer_bytes=size)
        for framing, size in itertools.product(FRAMINGS, (512, 2048, 8192))
    ),
)
QUICK: Final = (Line(baud=921_600, framing="raw", buffer_bytes=2048),)


@click.command()
@suite_argument
@quick_option
@out_option
@json_option
def flash(suite: Path, quick: bool, out: Path | None, as_json: bool) -> None:
    """Flash a small bundle at each rate, framing and buffer, against the framing's ceiling.

    Needs `lineside-bridge`. Takes about three minutes: a slow line is slow.

    Example: lineside measure flash suite --out results
    """
    rows = measure_lines(read_suite(suite), QUICK if quick else FULL)
    missed = [row for row in rows if row["share_of_ceiling"] < PROMISED_SHARE]
    found = {
        **circumstances("a bundle over a paced line into a simulated sensor: bytes a second"),
        "target": f"at least {PROMISED_SHARE:.0%} of what the framing carries at a buffer of 2048",
        "met": not [row for row in missed if row["buffer_bytes"] == 2048],
        "rows": rows,
    }
    publish("flash", found, _tell(rows), _draw(rows), out=out, as_json=as_json)


def measure_lines(suite: Suite, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """A row a line, in their order."""
    slow = [line for line in lines if line.baud < 500_000]
    fast = [line for line in lines if line.baud >= 500_000]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows = list(pool.map(lambda line: _flash(suite, line), slow))
    return rows + [_flash(suite, line) for line in fast]


def _flash(suite: Suite, line: Line) -> dict[str, Any]:
    from lineside_bridge.flash import flash_bundle
    from lineside_bridge.framing import Framing
    from lineside_bridge.link import SerialLink
    from lineside_bridge.session import Session

    with (
        _simulated_sensor(suite.key, line) as port,
        Session(lambda: SerialLink(port, line.baud), Framing(line.framing)) as session,
    ):
        bundle = suite.path(suite.pick(*MODEL))
        report = flash_bundle(session, bundle, trusted=suite.trusted)
    assert report.share is not None, "a paced line has a ceiling"
    row = {
        "framing": line.framing,
        "baud": line.baud,
        "buffer_bytes": line.buffer_bytes,
        "sent_bytes": report.sent_bytes,
        "took_s": report.took_s,
        "lost": report.lost,
        "kib_per_s": round(report.bytes_per_s / 1024, 2),
        "share_of_ceiling": round(report.share, 4),
        "share_of_wire": round(report.bytes_per_s * 10 / line.baud, 4),
    }
    click.echo(f"{line.framing} {line.baud} buffer {line.buffer_bytes}: {row}", err=True)
    return row


@contextlib.contextmanager
def _simulated_sensor(key: Path, line: Line) -> Iterator[str]:
    paced = ("--baud", line.baud, "--buffer-bytes", line.buffer_bytes, "--framing", line.framing)
    words = ("--pty", "--trust", key, *paced, "--engine", _ENGINE, "--json")
    command = verb_command("sensor", "simulate", *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            events = map(json.loads, running.stdout)
            yield next(event["port"] for event in events if event["event"] == "ready")
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=_END_S)


def _tell(rows: Sequence[dict[str, Any]]) -> str:
    head = ("framing", "baud", "buffer", "KiB/s", "of the ceiling", "of the wire", "")
    told = [
        (
            *(row["framing"], str(row["baud"]), str(row["buffer_bytes"])),
            *(f"{row['kib_per_s']:.2f}", f"{row['share_of_ceiling']:.1%}"),
            f"{row['share_of_wire']:.1%}",
            "" if row["share_of_ceiling"] >= PROMISED_SHARE else f"below {PROMISED_SHARE:.0%}",
        )
        for row in rows
    ]
    return format_table(head, told, right=(1, 2, 3, 4, 5))


def _draw(rows: Sequence[dict[str, Any]]) -> Figure:
    figure = new_figure(8, 0.45 * len(rows) + 1.2)
    axis = figure.subplots()
    names = [f"{row['framing']}, {row['baud']} baud, {row['buffer_bytes']} B" for row in rows]
    places = range(len(rows))
    axis.barh(places, [row["share_of_wire"] for row in rows], color="C0")
    ceilings = [row["share_of_wire"] / row["share_of_ceiling"] for row in rows]
    axis.plot(ceilings, places, "|", color="black", markersize=16, label="the framing's ceiling")
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.set(xlabel="share of the wire that is bundle", xlim=(0, 1.02))
    axis.legend(loc="lower left")
    return figure
