"""Size, latency, metric and flips of every form of three networks or four, and torch beside them.

    python benchmarks/export_forms.py --work WORK [--elpv RUN]   # writes results/export_forms.json

A ViT-Ti, a ViT-S and a SAM-CNN are tuned on synthetic joints for a few epochs from noise; RUN, a
finished `lineside train` on other images, may stand beside them. `lineside export --sweep` makes
and measures all forms of each, but int8-distilled of the ViT-S, which takes too long. Then torch in
eager mode, float, and the forms that were sealed take turns at the same frames, all on two threads,
batch 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

# Else torch's idle threads spin on, and whoever computes next on the same cores waits for them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from joint_runs import LIMIT, TARGET, Work, run_verb
from results_folder import RESULTS

from lineside.bundle import open_bundle
from lineside.candidate import PROGRAM, read_samples
from lineside.engines import EngineSettings, open_engine
from lineside.preprocess import prepare
from lineside_bench.drawing import new_figure, save_figure
from lineside_bench.record import circumstances, keep

NETWORKS: Final = {"vit_tiny": 4, "vit_small": 2, "sam_cnn": 4}
"""Epochs of each: enough for a model whose error lies well below the mean predictor's."""
SLOW_TO_TEACH: Final = "vit_small"
QUICK_FORMS: Final = "fp32,fp16,bf16,int8,int8-dynamic,int8-mixed,int8-weights,int4-weights"
"""All but int8-distilled."""
THREADS, WARM_UP = 2, 20

Row = dict[str, Any]


def train_all(work: Work) -> dict[str, Path]:
    """The networks' runs by name."""
    goal = ("--data", work.data, "--group", "part", "--target", TARGET, "--limit", LIMIT)
    tuning = ("--batch-size", 32, "--lr", "3e-4", "--seed", 0)
    for arch, epochs in NETWORKS.items():
        work.run("train", f"forms_{arch}", *goal, *tuning, "--arch", arch, "--epochs", epochs)
    return {f"{arch}, joints": work.folder / f"forms_{arch}" for arch in NETWORKS}


def sweep(
    run: Path, folder: Path, key: Path, *, limit: str | None, all_forms: bool
) -> tuple[Path, Row]:
    """The bundle, and the report of all forms."""
    bundle = folder / f"{run.name}.lsb"
    report = folder / f"{run.name}.report"
    if not bundle.exists():
        named = () if all_forms else ("--precision", QUICK_FORMS)
        limited = () if limit is None else ("--limit", limit)
        run_verb(
            *("export", run / "candidate", "--out", bundle, "--key", key, "--sweep", "--json"),
            *("--report", report, *named, *limited),
        )
    found: Row = json.loads((report / "parity.json").read_text(encoding="utf-8"))
    return bundle, found


def beside_torch(run: Path, bundle_path: Path, trust: Path, rounds: int) -> dict[str, Row]:
    """Microseconds of one inference: torch and the sealed forms in turns, by label."""
    torch.set_num_threads(THREADS)
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(bundle_path, trust=[trust]))
        contract = bundle.manifest.contract
        frames = read_samples(run / "candidate" / "samples.npz")["validation"].frames_hwc[:50]
        images = np.stack(
            [prepare(f, contract.frame, contract.input, source="benchmark") for f in frames]
        )
        ways: dict[str, Callable[[Any], object]] = {"torch fp32": eager(run)}
        for model, threads in itertools.product(bundle.manifest.models, range(1, THREADS + 1)):
            engine = open_engine(model, bundle.part, contract, EngineSettings(threads=threads))
            stack.callback(engine.close)
            ways[f"{model.engine} {model.precision}, {threads} thread(s)"] = engine.infer
        taken: dict[str, list[float]] = {label: [] for label in ways}
        for number in range(WARM_UP + rounds):
            image = images[number % len(images)][np.newaxis]
            for label, infer in ways.items():
                before_ns = perf_counter_ns()
                infer(image)
                if number >= WARM_UP:
                    taken[label].append((perf_counter_ns() - before_ns) / 1e3)
    return {label: told(values, taken["torch fp32"]) for label, values in taken.items()}


def eager(run: Path) -> Callable[[Any], object]:
    """The candidate's program in torch, operator by operator."""
    module = torch.export.load(run / "candidate" / PROGRAM).module()

    def infer(image_nhwc: Any) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(image_nhwc))

    return infer


def told(values: list[float], torch_us: list[float]) -> Row:
    """Percentiles, and the median of the ratios within each round."""
    ratios = np.array(torch_us) / np.array(values)
    low, median, high = np.percentile(ratios, (25, 50, 75)).round(2).tolist()
    return {
        "p50_us": round(float(np.percentile(values, 50)), 1),
        "p99_us": round(float(np.percentile(values, 99)), 1),
        "times_as_fast_as_torch": {"p25": low, "p50": median, "p75": high},
    }


def draw(path: Path, rows: dict[str, Row]) -> None:
    """Metric over latency, a panel for each network."""
    figure = new_figure(11, 4 * -(-len(rows) // 2))
    for axes, (name, row) in zip(
        figure.subplots(-(-len(rows) // 2), 2, squeeze=False).flat, rows.items(), strict=False
    ):
        for form in row["forms"]:
            if form["cost"] is None:
                continue
            x, y = form["cost"]["p50_us"] / 1e3, form[row["metric"]]
            colour = {"onnxruntime": "C0", "openvino": "C1"}[form["engine"]]
            marker = "x" if form["missed_gates"] else "o"
            axes.scatter([x], [y], s=8 * form["size_bytes"] / 1e6 + 12, color=colour, marker=marker)
            if form["sealed"]:
                axes.scatter([x], [y], s=300, facecolors="none", edgecolors="crimson")
            axes.annotate(
                form["precision"], (x, y), textcoords="offset points", xytext=(4, 4), fontsize=6
            )
        axes.set(title=name, xlabel="one inference, p50 [ms], one thread")
        axes.set(ylabel=f"validation {row['metric']}")
    save_figure(figure, path)


def print_table(rows: dict[str, Row]) -> None:
    """For people."""
    for name, row in rows.items():
        whole = next(f for f in row["forms"] if f["precision"] == "fp32" and f["cost"])
        print(f"\n{name}: validation {row['metric']} {row['reference']:.5g}")
        for form in row["forms"]:
            if form["cost"] is None:
                print(f"  {form['engine']:12s} {form['precision']:15s} {form['missed_gates'][0]}")
                continue
            label = f"{form['engine']:12s} {form['precision']:15s}"
            print(
                f"  {label} {form['size_bytes'] / 1e6:6.2f} MB "
                f"({form['size_bytes'] / whole['size_bytes']:.2f}) "
                f"{form['cost']['p50_us'] / 1e3:6.2f} ms  {form[row['metric']]:.5g} "
                f"({form[row['metric']] / row['reference'] - 1:+.2%})  {form['verdict_flips']} of "
                f"{form['samples']} flip (< {form['flip_bound']:.2%})"
                f"{'  sealed' if form['sealed'] else ''}"
            )
        for label, found in row["beside_torch"].items():
            times = found["times_as_fast_as_torch"]
            print(
                f"  {label:40s} {found['p50_us'] / 1e3:6.2f} ms, "
                f"{times['p50']:.2f}x torch ({times['p25']:.2f} to {times['p75']:.2f})"
            )


def measure(run: Path, folder: Path, rounds: int, *, limit: str | None, all_forms: bool) -> Row:
    """One network's row."""
    key = folder / "bench.key"
    bundle, found = sweep(run, folder, key, limit=limit, all_forms=all_forms)
    (metric,) = (key for key in found["reference"] if key != "computed_by")
    return {
        "metric": metric,
        "reference": found["reference"][metric],
        "samples": found["samples"],
        "samples_sha256": found["samples_sha256"],
        "forms": [{k: v for k, v in form.items() if k != "flipped"} for form in found["forms"]],
        "beside_torch": beside_torch(run, bundle, folder / "bench.pub", rounds),
    }


def main() -> None:
    """Run what is missing, measure, write, draw, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--parts", type=int, default=700, help="synthetic joints, 5 images each")
    parser.add_argument("--elpv", type=Path, help="a finished run on solar cells")
    parser.add_argument("--elpv-limit", default="0.5", help="which cells are bad; on its scale")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of training")
    asked = parser.parse_args()
    work = Work(asked.work.resolve(), asked.parts, asked.precision)
    work.prepare()
    if not (work.folder / "bench.key").exists():
        run_verb("keys", "new", "bench", "--out", work.folder)
    runs = train_all(work)
    if asked.elpv is not None:
        runs["vit_tiny, elpv"] = asked.elpv
    rows = {
        name: measure(
            run,
            work.folder,
            asked.rounds,
            limit=asked.elpv_limit if run == asked.elpv else None,
            all_forms=not name.startswith(SLOW_TO_TEACH),
        )
        for name, run in runs.items()
    }
    print_table(rows)
    found = circumstances("size, latency, metric and verdict flips of every form of a model")
    keep(RESULTS / "export_forms.json", {**found, "threads_beside_torch": THREADS, "rows": rows})
    draw(RESULTS / "export_forms.png", rows)


if __name__ == "__main__":
    main()
