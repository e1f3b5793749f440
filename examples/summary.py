"""What the demo's run came to, read from the files that the verbs left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def print_summary(out: Path, station: dict[str, Any], *, seconds: float) -> bool:
    """Print the figures; returns whether the test error's interval lies below the mean predictor's.

    Args:
        out: the demo's folder: ``pre/``, ``joint/``, ``export.json``, ``joint.lsb``.
        station: the document of ``lineside run --json``.
        seconds: how long the demo took.
    """
    pre = _read(out / "pre" / "result.json")
    joint = _read(out / "joint" / "result.json")
    export = _read(out / "export.json")
    rows = [
        *_learning(pre, joint),
        *_exported(export),
        ("verdicts", _counted(station["evaluations"])),
        ("PLC", f"heard {station['acknowledged']} of {station['given']}"),
        *_latency(station["latency_us"]),
        ("report", str(out / "joint" / "report.html")),
        ("took", f"{seconds:.0f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n== What came out\n" + "\n".join(f"{name:<{width}}  {words}" for name, words in rows))
    below: bool = joint["below_mean_predictor"]
    if not below:
        print("\ndemo: the interval does not lie below the mean predictor: nothing was learned")
    return below


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _learning(pre: dict[str, Any], joint: dict[str, Any]) -> list[tuple[str, str]]:
    test, trivial = joint["test_mse"], joint["mean_predictor_mse"]
    return [
        ("images", f"{joint['run']['images']}: {_counted(joint['run']['counts'])}"),
        ("pre-training loss", _curve(pre["run"]["training_loss"])),
        ("tuning loss", _curve(joint["run"]["training_loss"])),
        ("validation MSE", _curve(joint["run"]["validation"])),
        (
            "test MSE",
            f"{test['value']:.5f}, 95 % interval {test['low']:.5f} to {test['high']:.5f} "
            f"(drawn by {test['drawn_by']}, {test['drawn']})",
        ),
        ("mean predictor", f"{trivial['value']:.5f} on the same images"),
    ]


def _exported(export: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (
            f"{found['engine']} {found['precision']}",
            f"drift at most {found['max_abs_drift']:.2g}, mean {found['mean_abs_drift']:.2g}; "
            f"{found['verdict_flips']} of {found['samples']} verdicts flipped",
        )
        for found in export["agreements"]
    ]
    return [*rows, ("bundle", f"{export['size_bytes'] / 1e6:.2f} MB ({export['bundle']})")]


def _latency(stages: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"latency {stage}",
            f"p50 {found['p50_us'] / 1000:.3f} ms, p99 {found['p99_us'] / 1000:.3f} ms",
        )
        for stage, found in stages.items()
        if found["count"]
    ]


def _curve(ends: dict[str, Any]) -> str:
    words = f"{ends['first']:.4g} → {ends['last']:.4g}"
    return words + f" (best {ends['best']:.4g} in epoch {ends['best_epoch'] + 1})"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
