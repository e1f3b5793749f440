"""A strict reader of Prometheus' text format 0.0.4, written from its specification, not from ours.

prometheus.io, "Exposition formats", "Text format details" and "Comments, help text, and type
information". Stricter where that allows sloppiness: every family has HELP and TYPE ahead of its
samples, all of them together; spaces are single; no sample stands twice.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
VALUE = r"(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|NaN|\+Inf|-Inf)"
KINDS = ("counter", "gauge", "histogram", "summary", "untyped")
_HELP = re.compile(rf"# HELP ({NAME}) ((?:[^\\]|\\\\|\\n)*)")
_TYPE = re.compile(rf"# TYPE ({NAME}) ({'|'.join(KINDS)})")
_SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? ({VALUE})(?: -?\d+)?")
_PAIR = re.compile(rf'({LABEL})="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(kw_only=True)
class Family:
    """One metric: name of the sample and labels to value."""

    help: str
    kind: str = ""
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Family]:
    """All families by name; ``ValueError`` for whatever the format does not allow."""
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no line feed")
    families: dict[str, Family] = {}
    now = ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            now = _read_help(line, families)
        elif line.startswith("# TYPE "):
            _read_type(line, families, now)
        elif line and not line.startswith("#"):
            _read_sample(line, families, now)
    for name, family in families.items():
        _check(name, family)
    return families


def _read_help(line: str, families: dict[str, Family]) -> str:
    found = _HELP.fullmatch(line)
    if found is None or found[1] in families:
        raise ValueError(f"HELP twice or wrong: {line!r}")
    families[found[1]] = Family(help=found[2])
    return found[1]


def _read_type(line: str, families: dict[str, Family], now: str) -> None:
    found = _TYPE.fullmatch(line)
    if found is None or found[1] != now or families[now].kind or families[now].samples:
        raise ValueError(f"TYPE wrong, twice, or not after its HELP: {line!r}")
    families[now].kind = found[2]


def _read_sample(line: str, families: dict[str, Family], now: str) -> None:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        raise ValueError(f"no sample: {line!r}")
    name = found[1]
    added = ("", "_sum", "_count") if now and families[now].kind == "summary" else ("",)
    if name not in {now + end for end in added}:
        raise ValueError(f"a sample outside of its family {now!r}: {line!r}")
    key = (name, tuple(sorted(_read_labels(found[2] or "").items())))
    if key in families[now].samples:
        raise ValueError(f"a sample twice: {line!r}")
    families[now].samples[key] = float(found[3])


def _read_labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None or found[1] in labels or found[1].startswith("__"):
            raise ValueError(f"labels wrong: {text!r}")
        labels[found[1]] = re.sub(r'\\[\\"n]', lambda escape: _ESCAPES[escape[0]], found[2])
        at = found.end()
    return labels


def _check(name: str, family: Family) -> None:
    if not family.kind or not family.samples or not family.help:
        raise ValueError(f"{name}: without type, help or samples")
    if (family.kind == "counter") != name.endswith("_total"):
        raise ValueError(f"{name}: _total belongs to counters, and to all of them")
    for (sample, labels), value in family.samples.items():
        if family.kind == "counter" and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: a counter of {value}")
        if family.kind == "summary" and (sample == name) != ("quantile" in dict(labels)):
            raise ValueError(f"{name}: a quantile too few or too many")
