"""`lineside measure latency`: what is measured, in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from lineside.cli.options import json_option
from lineside_bench.latency.allocations import measure_allocations
from lineside_bench.latency.busy import busy_cores
from lineside_bench.latency.frames import measure_frames
from lineside_bench.latency.journey import open_journey, rows_of, send_for
from lineside_bench.latency.models import BUSY, IDLE, QUICK, Measured, Plan, measure_model
from lineside_bench.latency.picture import draw
from lineside_bench.latency.table import tell
from lineside_bench.options import out_option, quick_option, suite_argument
from lineside_bench.record import circumstances, publish
from lineside_bench.suite import Sealed, Suite, read_suite

FLAGSHIP: Final = ("vit_tiny", "int8")


@click.command()
@suite_argument
@quick_option
@out_option
@json_option
def latency(suite: Path, quick: bool, out: Path | None, as_json: bool) -> None:
    """Measure one inspection by stage, and how close it comes to the bare engine.

    Every model, form, engine, with one thread and with all cores, alone and eight at once, idle and
    beside one busy process a core; decoding and preprocessing by kind of frame; the flagship's way
    to the PLC through the durable outbox and a real mosquitto (left out where none is installed).
    First calls are shown and not counted. About four minutes.

    Example: lineside measure latency suite --out results
    """
    found, measured = measure_latency(read_suite(suite), QUICK if quick else Plan())
    figure = draw(measured.taken, measured.warm_up, found["journey"]) if out else None
    publish("latency", found, tell(found), figure, out=out, as_json=as_json)


def measure_latency(suite: Suite, plan: Plan) -> tuple[dict[str, Any], Measured]:
    """The document, and what its picture is drawn from."""
    head = circumstances("one inspection by stage and beside the bare engine: microseconds")
    flagship = _flagship(suite)
    measured = Measured()
    for model in list(dict.fromkeys(one.model for one in suite.sealed))[: plan.models]:
        click.echo(f"{model}: every form, engine and number of threads in turns", err=True)
        measure_model(suite, model, plan, measured)
    click.echo("frames, the way to the PLC, allocations", err=True)
    found = {
        **head,
        "inspections": measured.rows,
        "closeness": [one.row() for one in measured.closeness],
        "frames": measure_frames(rounds=plan.frame_rounds),
        "journey": _measure_journey(suite, flagship, plan),
        "allocations": measure_allocations(suite, flagship),
        "refused": measured.refused,
    }
    return found, measured


def _flagship(suite: Suite) -> Sealed:
    """The ViT-Ti in eight bits, or whatever the suite has first."""
    named = [one for one in suite.sealed if (one.model, one.form) == FLAGSHIP]
    return (named or list(suite.sealed))[0]


def _measure_journey(suite: Suite, one: Sealed, plan: Plan) -> dict[str, Any]:
    with open_journey(suite, one) as journey:
        idle = send_for(journey, plan.journey_idle_s, first=0)
        with busy_cores():
            busy = send_for(journey, plan.journey_busy_s, first=len(idle))
        return {
            "model": f"{one.model} {one.form}",
            "engine": journey.engine,
            "without": journey.without,
            "stages": [*rows_of(idle, IDLE), *rows_of(busy, BUSY)],
        }
