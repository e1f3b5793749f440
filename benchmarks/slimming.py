"""How much faster a slimmed ViT is on a device, and what that costs: the latency-accuracy front.

    python benchmarks/slimming.py --work WORK    # writes benchmarks/results/slimming.json and .png

On synthetic joints, by `lineside` verbs: a ViT-Ti is tuned, cut to fewer heads and hidden units,
tuned again for a fifth of the epochs, and exported in int8 and fp32. Beside each, with `--fresh`, a
network of the same small shape that was tuned from noise for all epochs. Latency is that of the
device's own inspector, one thread, batch 1: all networks, engines and precisions take turns at the
same frame. Accuracy is the MSE on the validation samples, computed by that very engine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from form_turns import Form, measure, opened
from joint_runs import LIMIT, TARGET, Work, run_verb
from results_folder import RESULTS

from lineside.bench import golden_frames, summarise
from lineside.bundle import open_bundle
from lineside.verdict import Timings
from lineside_bench.drawing import new_figure, save_figure
from lineside_bench.record import circumstances, keep

PRECISIONS = ("int8", "fp32")

Shapes = dict[str, tuple[int, float]]
"""Heads, and hidden units as a share of the whole network's, by name."""

SHAPES: Shapes = {
    "3 heads, mlp 0.5": (3, 0.5),
    "3 heads, mlp 0.25": (3, 0.25),
    "2 heads, mlp 1": (2, 1.0),
    "2 heads, mlp 0.5": (2, 0.5),
    "2 heads, mlp 0.25": (2, 0.25),
    "1 head, mlp 0.25": (1, 0.25),
}
WHOLE = "whole"


def make_runs(
    work: Work, shapes: Shapes, epochs: int, *, fresh: bool, teach: bool
) -> dict[str, Path]:
    """The whole network and the slimmed ones; their folders by name."""
    goal = ("--data", work.data, "--group", "part", "--target", TARGET, "--limit", LIMIT)
    tuning = ("--batch-size", 32, "--lr", "3e-4", "--epochs", epochs, "--seed", 0)
    wide = f"vit_tiny_alone_{epochs}_0"
    work.run("train", wide, *goal, "--arch", "vit_tiny", *tuning)
    runs = {WHOLE: work.folder / wide}
    for name, (heads, mlp) in shapes.items():
        word = f"{heads}_{mlp:g}".replace(".", "")
        cut = ("--heads", heads, "--mlp", mlp)
        work.run("slim", f"{wide}_slim_{word}", runs[WHOLE], *cut)
        runs[name] = work.folder / f"{wide}_slim_{word}"
        if teach:
            work.run("slim", f"{wide}_taught_{word}", runs[WHOLE], *cut, "--teacher", runs[WHOLE])
            runs[f"{name}, taught"] = work.folder / f"{wide}_taught_{word}"
        if fresh:
            config = work.folder / f"shape_{word}.toml"
            config.write_text(f"[model]\nheads = {heads}\nmlp_share = {mlp}\n", encoding="utf-8")
            shape = ("--arch", "vit_tiny", "--config", config)
            work.run("train", f"{wide}_fresh_{word}", *goal, *tuning, *shape)
            runs[f"{name}, fresh"] = work.folder / f"{wide}_fresh_{word}"
    return runs


def seal(run: Path, precision: str, key: Path) -> tuple[Path, dict[str, float]]:
    """Export a run's candidate; the bundle, and the metrics by way of computing."""
    bundle = run / f"{precision}.lsb"
    report = run / f"{precision}.json"
    if not report.exists():
        report.write_text(
            run_verb(
                *("export", run / "candidate", "--out", bundle, "--key", key, "--json"),
                *("--precision", precision, "--max-drop", 1.0, "--max-flips", 20),
            ),
            encoding="utf-8",
        )
    metrics: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))["metrics"]
    return bundle, metrics


def front(points: Sequence[dict[str, Any]]) -> list[str]:
    """Names of those that no other beats in both latency and error."""
    return [
        p["network"]
        for p in points
        if not any(
            q["infer_p50_us"] <= p["infer_p50_us"]
            and q["validation_mse"] <= p["validation_mse"]
            and q is not p
            for q in points
        )
    ]


def collect(work: Work, runs: dict[str, Path], rounds: int) -> list[dict[str, Any]]:
    """Export, open, measure: a row for each network, engine and precision."""
    key, trust = work.folder / "bench.key", work.folder / "bench.pub"
    if not key.exists():
        run_verb("keys", "new", "bench", "--out", work.folder)
    sealed = {
        (name, precision): seal(run, precision, key)
        for name, run in runs.items()
        for precision in PRECISIONS
    }
    bundles = {place: bundle for place, (bundle, _) in sealed.items()}
    with opened(bundles, trust) as forms:
        with open_bundle(bundles[WHOLE, "fp32"], trust=[trust]) as bundle:
            frames = golden_frames(bundle)
        timings = measure(forms, frames, rounds)
    return [
        row(form, taken, runs[form.network], sealed[form.network, form.precision][1])
        for form, taken in zip(forms, timings, strict=True)
    ]


def row(
    form: Form, taken: Sequence[Timings], run: Path, metrics: dict[str, float]
) -> dict[str, Any]:
    """One point."""
    document = json.loads((run / "result.json").read_text(encoding="utf-8"))
    stages = {stage.stage: stage for stage in summarise(taken)}
    return {
        "network": form.network,
        "engine": form.engine,
        "precision": form.precision,
        "infer_p50_us": round(stages["infer"].p50_us, 1),
        "infer_p90_us": round(stages["infer"].p90_us, 1),
        "total_p50_us": round(stages["total"].p50_us, 1),
        "validation_mse": metrics[f"validation_mse_{form.engine}_{form.precision}"],
        "test_mse_float": document["test"]["mse"],
        "parameters": document["run"]["parameters"],
        "tuning_s": round(document["run"]["seconds"], 1),
    }


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Error over latency, a panel for each engine and precision."""
    ways = sorted({(r["engine"], r["precision"]) for r in rows})
    figure = new_figure(10, 7)
    axes = figure.subplots(2, -(-len(ways) // 2), squeeze=False).flat
    for (engine, precision), axis in zip(ways, axes, strict=False):
        points = [r for r in rows if (r["engine"], r["precision"]) == (engine, precision)]
        best = set(front(points))
        for point in points:
            x, y = point["infer_p50_us"] / 1e3, point["validation_mse"]
            on = point["network"] in best
            axis.plot(x, y, "o" if on else "x", color="C0" if on else "C7")
            axis.annotate(
                point["network"], (x, y), textcoords="offset points", xytext=(4, 3), fontsize=6
            )
        axis.set(title=f"{engine} {precision}", xlabel="inference, p50 [ms]")
        axis.set(ylabel="validation MSE", yscale="log")
    save_figure(figure, path)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """For people: each against the whole network in the same engine and precision."""
    whole = {(r["engine"], r["precision"]): r for r in rows if r["network"] == WHOLE}
    for r in sorted(rows, key=lambda r: (r["engine"], r["precision"], r["infer_p50_us"])):
        base = whole[r["engine"], r["precision"]]
        print(
            f"{r['engine']:12s} {r['precision']} {r['network']:28s} "
            f"{r['infer_p50_us'] / 1e3:7.3f} ms ({base['infer_p50_us'] / r['infer_p50_us']:.2f}x) "
            f"validation MSE {r['validation_mse']:.5f} "
            f"({r['validation_mse'] / base['validation_mse'] - 1:+.0%})"
        )


def recorded(
    asked: argparse.Namespace, whole: Path, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The points, and what they were made by."""
    result = json.loads((whole / "result.json").read_text(encoding="utf-8"))
    ways = sorted({(r["engine"], r["precision"]) for r in rows})
    fronts = {
        f"{engine} {precision}": front(
            [r for r in rows if (r["engine"], r["precision"]) == (engine, precision)]
        )
        for engine, precision in ways
    }
    return {
        **circumstances(
            "latency of one inspection and validation MSE of a ViT-Ti and of slimmed ones"
        ),
        "data": f"lineside dataset joints --parts {asked.parts} --seed 7",
        "data_sha256": result["run"]["data_sha256"],
        "seed": 0,
        "epochs": asked.epochs,
        "rounds": asked.rounds,
        "mean_predictor_mse_on_test": result["baseline"]["mse"]["value"],
        "front": fronts,
        "rows": rows,
    }


def main() -> None:
    """Run what is missing, measure, write, draw, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--parts", type=int, default=200, help="synthetic joints, 5 images each")
    parser.add_argument("--epochs", type=int, default=60, help="of the whole network")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--fresh", action="store_true", help="small shapes from noise beside them")
    parser.add_argument("--taught", action="store_true", help="slimmed ones taught by the whole")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of training")
    parser.add_argument("--quick", action="store_true", help="minutes; nothing is recorded")
    asked = parser.parse_args()
    shapes = SHAPES
    if asked.quick:
        asked.parts, asked.epochs, asked.rounds = 60, 4, 50
        shapes = dict(list(SHAPES.items())[:1])
    work = Work(asked.work.resolve(), asked.parts, asked.precision)
    work.prepare()
    runs = make_runs(work, shapes, asked.epochs, fresh=asked.fresh, teach=asked.taught)
    rows = collect(work, runs, asked.rounds)
    print_table(rows)
    if not asked.quick:
        found = recorded(asked, runs[WHOLE], rows)
        keep(RESULTS / "slimming.json", found)
        draw(RESULTS / "slimming.png", rows)


if __name__ == "__main__":
    main()
