"""What the demo's run came to, read from the files that the verbs left."""

from __future__ import annotations

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def print_summary(out: Path, station: dict[str, Any], *, seconds: float) -> bool:
    """Print the figures; returns whether the whole interval beats the trivial predictor.

    Args:
        out: the demo's folder: ``pre/``, ``joint/``, ``export.json``, ``joint.lsb``.
        station: the document of ``lineside run --json``.
        seconds: how long the demo took.
    """
    pre = _read(out / "pre" / "result.json")
    joint = _read(out / "joint" / "result.json")
    export = _read(out / "export.json")
    _write(out / "summary.json", pre, joint, export, station, seconds)
    rows = [
        *_learning(pre, joint),
        *_exported(export),
        ("verdicts", _counted(station["evaluations"])),
        # The demo has ended by now where the PLC heard fewer than there were frames.
        ("PLC", f"heard all {station['frames']} verdicts"),
        ("broker", f"acknowledged {station['acknowledged']} of {station['given']}"),
        *_latency(station["latency_us"]),
        ("report", str(out / "joint" / "report.html")),
        ("took", f"{seconds:.0f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n== What came out\n" + "\n".join(f"{name:<{width}}  {words}" for name, words in rows))
    better: bool = joint["better_than_baseline"]
    if not better:
        trivial = joint["baseline_name"]
        print(f"\ndemo: the interval is not better than the {trivial}: nothing was learned")
    return better


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _write(
    path: Path,
    pre: dict[str, Any],
    joint: dict[str, Any],
    export: dict[str, Any],
    station: dict[str, Any],
    seconds: float,
) -> None:
    """The same figures for programs, with what they were made on and by which command."""
    document = {
        "what": "the demo, from images to verdicts",
        "command": shlex.join(["python", "examples/demo.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": joint["run"]["machine"],
        "load_average": os.getloadavg(),
        "versions": joint["run"]["versions"],
        "data_sha256": joint["run"]["data_sha256"],
        "seed": joint["run"]["seed"],
        "seconds": round(seconds, 1),
        "images": joint["run"]["images"],
        "counts": joint["run"]["counts"],
        "pre_training_loss": pre["run"]["training_loss"],
        "validation_mse": joint["run"]["validation"],
        "test_mse": joint["test"]["mse"],
        "mean_predictor_mse": joint["baseline"]["mse"],
        "agreements": export["agreements"],
        "bundle_size_bytes": export["size_bytes"],
        "evaluations": station["evaluations"],
        "latency_us": station["latency_us"],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _learning(pre: dict[str, Any], joint: dict[str, Any]) -> list[tuple[str, str]]:
    test, trivial = joint["test"]["mse"], joint["baseline"]["mse"]
    return [
        ("images", f"{joint['run']['images']}: {_counted(joint['run']['counts'])}"),
        ("pre-training loss", _curve(pre["run"]["training_loss"])),
        ("tuning loss", _curve(joint["run"]["training_loss"])),
        ("validation MSE", _curve(joint["run"]["validation"])),
        ("test MSE", f"{test['value']:.5f}, {_interval(test)}"),
        ("mean predictor", f"{trivial['value']:.5f} on the same images"),
    ]


def _exported(export: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (
            f"{found['engine']} {found['precision']}{_sealed(export, found)}",
            f"drift at most {found['max_abs_drift']:.2g}, mean {found['mean_abs_drift']:.2g}; "
            f"{found['verdict_flips']} of {found['samples']} verdicts flipped",
        )
        for found in export["agreements"]
        if (found["batch"], found["threads"]) == (1, 1)
    ]
    return [*rows, ("bundle", f"{export['size_bytes'] / 1e6:.2f} MB ({export['bundle']})")]


def _sealed(export: dict[str, Any], found: dict[str, Any]) -> str:
    sealed = [(form["engine"], form["precision"]) for form in export["forms"] if form["sealed"]]
    return " (sealed)" if (found["engine"], found["precision"]) in sealed else ""


def _latency(stages: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"latency {stage}",
            f"p50 {found['p50_us'] / 1000:.3f} ms, p99 {found['p99_us'] / 1000:.3f} ms",
        )
        for stage, found in stages.items()
        if found["count"]
    ]


def _interval(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return "no interval: there is nothing to draw from"
    ends = f"95 % interval {figure['low']:.5f} to {figure['high']:.5f}"
    return f"{ends} (drawn by {figure['drawn_by']}, {figure['drawn']})"


def _curve(ends: dict[str, Any]) -> str:
    words = f"{ends['first']:.4g} → {ends['last']:.4g}"
    return words + f" (best {ends['best']:.4g} in epoch {ends['best_epoch'] + 1})"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
