"""Prometheus' text format 0.0.4 (prometheus.io, "Exposition formats"), from one snapshot; pure.

Base units and ``_total`` as "Metric and label naming" there asks. Labels are names of ours, from
bounded sets; a part id is never one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from lineside.health.monitor import HealthSnapshot
from lineside.mqtt.health import Figure, HealthMessage, StageFigures, wire_name

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_Kind = Literal["counter", "gauge", "summary"]
_Labels = Mapping[str, str]
_Sample = tuple[str, _Labels, float]  # what is added to the family's name, labels, value
_NONE: Final[_Labels] = {}


def expose(snapshot: HealthSnapshot) -> str:
    """All families; one whose figures are not known is left out."""
    return "".join([*_of_station(snapshot), *_of_parts(snapshot.message), *_of_machine(snapshot)])


def _of_station(snapshot: HealthSnapshot) -> Iterator[str]:
    message = snapshot.message
    card = {
        "product": message.product,
        "version": message.version,
        "model": message.model[:12],
        "engine": message.engine,
        "runtime": message.runtime,
    }
    yield _family("station_info", "gauge", "What judges; always 1.", [("", card, 1)])
    yield _gauge("uptime_seconds", "Since the station started.", message.up_s)
    online = message.broker == "online"
    yield _gauge("broker_connected", "1 while the broker has let the station in.", online)
    yield _family(
        "broker_reconnects_total",
        "counter",
        "Connections to the broker after the first.",
        [("", _NONE, message.reconnects)],
    )
    yield _gauge("queue_verdicts", "Verdicts that wait for the broker.", message.queue)
    yield _labelled(
        "fault", "gauge", "1 for what is wrong just now.", "what", dict.fromkeys(snapshot.active, 1)
    )
    yield _labelled(
        "faults_total", "counter", "What went wrong.", "what", dict(snapshot.fault_counts)
    )


def _of_parts(message: HealthMessage) -> Iterator[str]:
    evaluations = {name: getattr(message, name) for name in _EVALUATIONS}
    yield _labelled(
        "verdicts_total", "counter", "Verdicts given.", "evaluation", evaluations, plain=False
    )
    reasons, words = message.reason, "Verdicts given, by reason."
    yield _labelled("verdict_reasons_total", "counter", words, "reason", reasons, plain=False)
    yield _family(
        "stage_seconds",
        "summary",
        "Time of a part in each stage; quantiles of the last five minutes.",
        [sample for name, stage in message.lat.items() for sample in _summary(name, stage)],
    )
    longest = {name: stage.max_us / 1e6 for name, stage in message.lat.items()}
    yield _labelled(
        "stage_longest_seconds", "gauge", "Longest of the last five minutes.", "stage", longest
    )
    yield _labelled(
        "back_pressure_total",
        "counter",
        "Parts that gave way, late results, waits of the source.",
        "what",
        message.pressure,
    )
    yield _labelled("source_total", "counter", "What the source counts.", "what", message.source)
    yield _labelled(
        "kept_total", "counter", "Pictures and frames written and lost.", "what", message.kept
    )
    yield _labelled(
        "commands_total",
        "counter",
        "Signed commands done, and refused by reason.",
        "what",
        message.commands,
    )
    yield _labelled("drift", "gauge", "Figures of the drift monitor.", "figure", message.drift)
    yield _labelled("trial", "gauge", "Of a bundle on trial.", "figure", message.trial)


def _of_machine(snapshot: HealthSnapshot) -> Iterator[str]:
    message = snapshot.message
    yield _gauge("memory_resident_bytes", "Memory of the process.", message.rss_bytes)
    yield _gauge("memory_available_bytes", "What could still be given away.", message.ram_bytes)
    yield _gauge("disk_free_bytes", "Free on the outbox's disk.", message.disk_bytes)
    yield _gauge("clock_synchronized", "1 while the clock is kept.", message.clock_synced)
    yield _labelled(
        "temperature_celsius", "gauge", "Degrees of each sensor.", "sensor", message.temp
    )


_EVALUATIONS: Final = ("ok", "not_ok", "not_decidable", "undefined")


def _summary(name: str, stage: StageFigures) -> Iterator[_Sample]:
    label = {"stage": wire_name(name)}
    # Of nothing there is no quantile: NaN, as the client libraries have it.
    for quantile, value_us in (("0.5", stage.p50_us), ("0.99", stage.p99_us)):
        value = value_us / 1e6 if stage.recent else math.nan
        yield "", {**label, "quantile": quantile}, value
    yield "_sum", label, stage.total_us / 1e6
    yield "_count", label, stage.count


def _gauge(name: str, words: str, value: float | None) -> str:
    return _family(name, "gauge", words, [] if value is None else [("", _NONE, value)])


def _labelled(
    name: str,
    kind: _Kind,
    words: str,
    label: str,
    figures: Mapping[str, Figure] | Mapping[str, int] | Mapping[str, float],
    *,
    plain: bool = True,
) -> str:
    """One sample a figure; words are none, and two names that read alike are one sample, the first.

    Args:
        plain: whether names of others are first made plain; reasons and evaluations are ours.
    """
    found: dict[str, float] = {}
    for key, value in figures.items():
        if value is not None and not isinstance(value, str):
            found.setdefault(wire_name(key) if plain else key, value)
    return _family(name, kind, words, [("", {label: key}, value) for key, value in found.items()])


def _family(name: str, kind: _Kind, words: str, samples: Iterable[_Sample]) -> str:
    lines = [
        f"lineside_{name}{added}{_braces(labels)} {_number(value)}\n"
        for added, labels, value in samples
    ]
    if not lines:
        return ""
    return f"# HELP lineside_{name} {words}\n# TYPE lineside_{name} {kind}\n" + "".join(lines)


def _braces(labels: _Labels) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escape(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no UTF-8


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    # Counts stay exact: repr of a float would write 1e+16.
    return str(int(value)) if isinstance(value, int) else repr(value)
