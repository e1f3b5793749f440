"""What a teacher is worth: a small student alone, and taught by a large self-pre-trained ViT.

    python benchmarks/distillation.py --work WORK    # writes benchmarks/results/distillation.json

On synthetic joints, everything by `lineside` verbs: a ViT-S is pre-trained as a masked autoencoder
on the training fold and tuned; each student is tuned from noise alone and beside that teacher,
with three seeds and the same settings. The share of the gap closed is
(alone - taught) / (alone - teacher) in test MSE. A stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from joint_runs import LIMIT, TARGET, Work
from results_folder import RESULTS

from lineside_bench.record import circumstances, keep

RESULT = RESULTS / "distillation.json"
TEACHER, STUDENTS = "vit_small", ("vit_tiny", "sam_cnn")
TUNING = ("--batch-size", 32, "--lr", "3e-4")

Run = dict[str, Any]


def make_teacher(work: Work, pretraining: int, tuning: int) -> Run:
    """Pre-train and tune the large one, with seed 0."""
    shared = ("--data", work.data, "--group", "part", "--seed", 0)
    name = f"teacher_{TEACHER}_{pretraining}_{tuning}"
    work.run(
        "pretrain",
        f"{name}_pre",
        *(*shared, "--method", "mae", "--arch", TEACHER, "--batch-size", 64),
        *("--epochs", pretraining),
    )
    init = ("--init", work.folder / f"{name}_pre")
    goal = ("--target", TARGET, "--limit", LIMIT)
    return work.run("train", name, *shared, *init, *goal, *TUNING, "--epochs", tuning)


def make_student(work: Work, arch: str, seed: int, epochs: int, teacher: Path | None) -> Run:
    """Tune a student from noise."""
    how = "taught" if teacher else "alone"
    return work.run(
        "train",
        f"{arch}_{how}_{epochs}_{seed}",
        *("--data", work.data, "--group", "part", "--target", TARGET, "--limit", LIMIT),
        *("--arch", arch, "--seed", seed, "--epochs", epochs, *TUNING),
        *(("--teacher", teacher) if teacher else ()),
    )


def mse(run: Run) -> float:
    """On the test samples."""
    return float(run["test"]["mse"]["value"])


def gap_closed(alone: float, taught: float, teacher: float) -> float | None:
    """Share; None where the student alone is as good as the teacher: there is no gap."""
    return (alone - taught) / (alone - teacher) if alone > teacher else None


def told(run: Run) -> Run:
    """What is recorded of a run."""
    own = run["run"]
    return {
        "test_mse": run["test"]["mse"],
        "mean_predictor_mse": run["baseline"]["mse"]["value"],
        "validation_mse": own["validation"]["best"],
        "best_epoch": own["validation"]["best_epoch"],
        "epochs": own["epochs"],
        "parameters": own["parameters"],
        "seed": own["seed"],
        "seconds": round(own["seconds"], 1),
        "images_per_s": round(own["images_per_s"], 1),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values)}


def compare(work: Work, arch: str, asked: argparse.Namespace, teacher: Run) -> dict[str, Any]:
    """One student, alone and taught."""
    folder = work.folder / f"teacher_{TEACHER}_{asked.pretraining}_{asked.teacher_epochs}"
    pairs = [
        tuple(make_student(work, arch, seed, asked.epochs, by) for by in (None, folder))
        for seed in range(asked.seeds)
    ]
    alone, taught = ([mse(pair[k]) for pair in pairs] for k in (0, 1))
    best = mse(teacher)
    shares = [gap_closed(a, t, best) for a, t in zip(alone, taught, strict=True)]
    return {
        "alone": [told(pair[0]) for pair in pairs],
        "taught": [told(pair[1]) for pair in pairs],
        "test_mse_alone": spread(alone),
        "test_mse_taught": spread(taught),
        "gap_closed_by_seed": shares,
        "gap_closed_of_means": gap_closed(statistics.mean(alone), statistics.mean(taught), best),
        "seeds_that_gained": sum(t < a for a, t in zip(alone, taught, strict=True)),
    }


def print_table(found: dict[str, Any]) -> None:
    """For people."""
    teacher = found["teacher"]["test_mse"]["value"]
    print(f"mean predictor {found['mean_predictor_mse']:.3g}, teacher {TEACHER} {teacher:.3g}")
    for arch, row in found["students"].items():
        closed = row["gap_closed_of_means"]
        alone, taught = row["test_mse_alone"], row["test_mse_taught"]
        print(
            f"{arch}: alone {alone['mean']:.3g} ± {alone['std']:.2g}, "
            f"taught {taught['mean']:.3g} ± {taught['std']:.2g}, "
            f"gap closed {'no gap' if closed is None else f'{closed:.0%}'}"
        )


def main() -> None:
    """Run what is missing, compare, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--parts", type=int, default=200, help="synthetic joints, 5 images each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="of each student")
    parser.add_argument("--pretraining", type=int, default=150, help="epochs of the teacher")
    parser.add_argument("--teacher-epochs", type=int, default=60)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--quick", action="store_true", help="minutes; nothing is recorded")
    asked = parser.parse_args()
    if asked.quick:
        asked.parts, asked.seeds, asked.epochs = 40, 2, 2
        asked.pretraining, asked.teacher_epochs = 2, 2
    work = Work(asked.work.resolve(), asked.parts, asked.precision)
    work.prepare()
    teacher = make_teacher(work, asked.pretraining, asked.teacher_epochs)
    found = {
        **circumstances("test MSE of a student alone and taught, and the share of the gap closed"),
        "data": f"lineside dataset joints --parts {asked.parts} --seed 7",
        "data_sha256": teacher["run"]["data_sha256"],
        "split_seed": teacher["run"]["split_seed"],
        "precision": asked.precision,
        "mean_predictor_mse": teacher["baseline"]["mse"]["value"],
        "teacher": {"arch": TEACHER, "pretraining_epochs": asked.pretraining, **told(teacher)},
        "students": {arch: compare(work, arch, asked, teacher) for arch in STUDENTS},
    }
    print_table(found)
    if not asked.quick:
        keep(RESULT, found)


if __name__ == "__main__":
    main()
