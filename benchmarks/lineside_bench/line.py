"""Trigger to PLC through a real broker: at every rate, and with the broker away for a while.

A part's time runs from the moment at which its trigger was due, whether or not the PLC came to send
it: a station that falls behind cannot hide it. The picture lies in the camera's folder by then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

from lineside.cli.options import json_option
from lineside.cli.table import format_table
from lineside_bench.drawing import new_figure
from lineside_bench.options import out_option, quick_option, suite_argument
from lineside_bench.record import circumstances, publish
from lineside_bench.rig import Fed, LineFault, Rig, open_rig
from lineside_bench.suite import Suite, read_suite
from lineside_bench.turns import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL: Final = ("vit_tiny", "int8")
# Parts a second, and seconds. The first two are the idle line.
RATES: Final = (
    *((1.0, 30.0), (5.0, 30.0), (10.0, 15.0), (20.0, 12.0), (50.0, 10.0)),
    *((100.0, 8.0), (150.0, 8.0), (200.0, 8.0)),
)
QUICK_RATES: Final = ((5.0, 4.0), (20.0, 3.0), (100.0, 2.0))
IDLE_HZ: Final = 5.0
_WARM_UP: Final = (20.0, 1.5)
_OUTAGE_HZ: Final = 20.0
_DECIDED: Final = ("within_limit", "beyond_limit", "between_limits")


@click.command()
@suite_argument
@click.option("--model", default=MODEL[0], show_default=True, help="Which of the suite's.")
@click.option("--form", default=MODEL[1], show_default=True, help="fp32 or int8.")
@quick_option
@out_option
@json_option
def line(suite: Path, model: str, form: str, quick: bool, out: Path | None, as_json: bool) -> None:
    """Measure trigger to PLC at 1 to 200 parts a second, and while the broker goes and comes back.

    A real station (`lineside run`) and a real mosquitto, which must be installed; the PLC triggers
    over MQTT and hears the verdict. About three minutes.

    Example: lineside measure line suite --out results
    """
    opened = read_suite(suite)
    rates = QUICK_RATES if quick else RATES
    rows, times_ms = measure_rates(opened, model, form, rates)
    outage = measure_outage(opened, model, form, away_s=1.0 if quick else 5.0)
    idle_p99 = spread_of(times_ms, [rate for rate, _ in rates if rate <= IDLE_HZ])
    found = {
        **circumstances("trigger to PLC over a real broker: milliseconds"),
        "model": f"{model} {form}",
        "idle_p99_ms": round(idle_p99, 3),
        "passes_twice_idle_at_hz": twice_idle(rows, idle_p99),
        "rates": rows,
        "outage": outage,
    }
    publish("line", found, _tell(found), _draw(times_ms, idle_p99), out=out, as_json=as_json)


def measure_rates(
    suite: Suite, model: str, form: str, rates: Sequence[tuple[float, float]]
) -> tuple[list[dict[str, Any]], dict[float, list[float]]]:
    """A row a rate, and each part's milliseconds by rate."""
    rows, times_ms = [], {}
    with open_rig(suite, suite.pick(model, form), triggered=True) as rig:
        rig.wait_for(rig.feed(*_WARM_UP, triggered=True))
        for rate_hz, duration_s in rates:
            fed = rig.feed(rate_hz, duration_s, triggered=True)
            lost = rig.wait_for(fed)
            times_ms[rate_hz] = _times_ms(rig, fed)
            rows.append(_row(rig, rate_hz, fed, lost, times_ms[rate_hz]))
            click.echo(f"{rate_hz:g} parts/s: {rows[-1]}", err=True)
    return rows, times_ms


def measure_outage(
    suite: Suite, model: str, form: str, *, away_s: float, beside_s: float = 3.0
) -> dict[str, Any]:
    """The broker ends and comes back while parts keep coming, each its own picture's file.

    Args:
        away_s: how long it is away; parts also come for ``beside_s`` before and after.

    Raises:
        LineFault: not one verdict came after its return.
    """
    with open_rig(suite, suite.pick(model, form), triggered=False) as rig:
        rig.wait_for(rig.feed(*_WARM_UP, triggered=False))
        before = rig.feed(_OUTAGE_HZ, beside_s, triggered=False)
        lost = rig.wait_for(before)
        rig.broker.stop()
        during = rig.feed(_OUTAGE_HZ, away_s, triggered=False)
        rig.broker.start()
        back_ns = perf_counter_ns()
        after = rig.feed(_OUTAGE_HZ, beside_s, triggered=False)
        lost += rig.wait_for(during) + rig.wait_for(after)
        sleep(0.5)  # what comes twice comes soon
        first_live_ns, caught_up_ns = min(_arrivals_ns(rig, after)), max(_arrivals_ns(rig, during))
        seqs = Counter(rig.plc.seqs)
        return {
            "rate_hz": _OUTAGE_HZ,
            "away_s": away_s,
            "parts": len(before.due_ns) + len(during.due_ns) + len(after.due_ns),
            "lost": lost,
            "repeated": sum(times - 1 for times in seqs.values()),
            "gaps": max(seqs) - min(seqs) + 1 - len(seqs),
            "before_p50_ms": round(float(np.median(_times_ms(rig, before))), 3),
            "after_p50_ms": round(float(np.median(_times_ms(rig, after))), 3),
            "first_live_after_return_ms": round((first_live_ns - back_ns) / 1e6, 1),
            "caught_up_after_return_ms": round((caught_up_ns - back_ns) / 1e6, 1),
        }


def _arrivals_ns(rig: Rig, fed: Fed) -> list[int]:
    """When the PLC heard, of the parts that it heard of.

    Raises:
        LineFault: of none.
    """
    arrived = rig.plc.arrived_ns
    found = [arrived[part] for part in fed.due_ns if part in arrived]
    if not found:
        raise LineFault("not one verdict came after the broker was back: look at the machine")
    return found


def twice_idle(rows: Sequence[dict[str, Any]], idle_p99_ms: float) -> float | None:
    """Parts a second at which p99 passes twice its idle value, between two rates by ratio.

    Returns:
        ``None`` where it never does.
    """
    under = 0.0
    below_ms = idle_p99_ms
    for row in rows:
        rate, p99_ms = float(row["rate_hz"]), float(row["p99_ms"])
        if rate <= IDLE_HZ:
            continue
        if p99_ms > 2 * idle_p99_ms or row["lost"] or row["refused"]:
            if not under or p99_ms <= 2 * idle_p99_ms:
                return rate
            share = math.log(2 * idle_p99_ms / below_ms) / math.log(p99_ms / below_ms)
            return float(round(under * (rate / under) ** min(1.0, max(0.0, share)), 1))
        under, below_ms = rate, p99_ms
    return None


def spread_of(times_ms: dict[float, list[float]], rates: Sequence[float]) -> float:
    """The 99th percentile of all parts at these rates together."""
    return float(np.percentile([time for rate in rates for time in times_ms[rate]], 99))


def _times_ms(rig: Rig, fed: Fed) -> list[float]:
    arrived = rig.plc.arrived_ns
    return [(arrived[part] - due) / 1e6 for part, due in fed.due_ns.items() if part in arrived]


def _row(
    rig: Rig, rate_hz: float, fed: Fed, lost: int, times_ms: Sequence[float]
) -> dict[str, Any]:
    reasons = Counter(rig.plc.reasons[part] for part in fed.due_ns if part in rig.plc.reasons)
    undecided = {word: count for word, count in reasons.items() if word not in _DECIDED}
    told = asdict(spread(np.array(times_ms) * 1e3))
    return {
        "rate_hz": rate_hz,
        "parts": len(fed.due_ns),
        "lost": lost,
        "refused": len(fed.due_ns.keys() & rig.plc.refused),
        "undecided": undecided,
        **{
            name.replace("_us", "_ms"): round(told[name] / 1e3, 3)
            for name in ("p50_us", "p90_us", "p99_us", "max_us", "jitter_us")
        },
    }


def _tell(found: dict[str, Any]) -> str:
    head = ("parts/s", "parts", "lost", "refused", "p50 ms", "p90 ms", "p99 ms", "max ms", "")
    rows = [
        (
            *(f"{row['rate_hz']:g}", str(row["parts"]), str(row["lost"]), str(row["refused"])),
            *(f"{row[name]:.2f}" for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms")),
            ", ".join(f"{count} {word}" for word, count in row["undecided"].items()),
        )
        for row in found["rates"]
    ]
    at = found["passes_twice_idle_at_hz"]
    outage = found["outage"]
    return "\n".join(
        [
            f"trigger to PLC, {found['model']}",
            format_table(head, rows, right=tuple(range(8))),
            f"idle p99 {found['idle_p99_ms']:.2f} ms; "
            + (f"twice that is passed at {at:g} parts/s" if at else "never twice that"),
            f"broker away for {outage['away_s']:g} s at {outage['rate_hz']:g} parts/s: "
            f"{outage['parts']} parts, {outage['lost']} lost, {outage['repeated']} repeated, "
            f"{outage['gaps']} gaps; first live verdict {outage['first_live_after_return_ms']:.0f} "
            f"ms and all of them {outage['caught_up_after_return_ms']:.0f} ms after its return",
        ]
    )


def _draw(times_ms: dict[float, list[float]], idle_p99_ms: float) -> Figure:
    figure = new_figure(9, 4.5)
    axis = figure.subplots()
    rates = list(times_ms)
    axis.boxplot(
        [times_ms[rate] for rate in rates],
        whis=(1, 99),
        tick_labels=[f"{rate:g}" for rate in rates],
    )
    axis.axhline(2 * idle_p99_ms, color="C3", linestyle="--", label="twice the idle p99")
    axis.set(xlabel="parts a second", ylabel="trigger to PLC [ms]", yscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_title("Boxes: quartiles; whiskers: 1 % to 99 %; circles: the rest")
    axis.legend(loc="upper left")
    axis.grid(axis="y", alpha=0.3)
    return figure
