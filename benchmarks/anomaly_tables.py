"""Tables II and III of Ulger et al. on their own data family, and memories of good patches beside.

    python benchmarks/anomaly_tables.py --work runs/anomaly --ulger DIR --handian DIR

Each row is a `lineside train --task anomaly`, each seed a run of its own with its own training and
validation images; all are tested on the same images, which nothing is chosen on
(`shrunk_joints.py`). Through-hole joints of production boards (handian) stand beside, whole boards
on one side of the split, which each seed draws anew. A row whose score is learnt with the gradient
constraint is a run of its own; the others of one network share theirs. Runs that are finished are
left alone, so a stopped call goes on. Precision, recall and F1 are those at the limit that
validation proposed, of test sets redrawn with the paper's share of bad images.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from joint_runs import LINESIDE
from results_folder import RESULTS
from shrunk_joints import SHRUNK_PX, fold_column, write_shrunk_joints

from lineside.metrics import auroc
from lineside_bench.record import circumstances, keep

BETAS: Final = (0.01, 0.1, 1.0, 3.0, 10.0)
"""Table III; at 1 it is a VAE."""

PAPER: Final = {
    "CAE recon": 0.641,
    "CAE gradcon": 0.742,
    "VAE recon": 0.789,
    "VAE elbo": 0.787,
    "VAE gradcon": 0.796,
    "beta-VAE recon": 0.803,
    "beta-VAE elbo": 0.799,
    "beta-VAE gradcon": 0.809,
    "beta 0.01": 0.743,
    "beta 0.1": 0.776,
    "beta 1": 0.796,
    "beta 3": 0.809,
    "beta 10": 0.735,
}
"""F1 of tables II and III."""

ALL_ANOMALOUS_F1: Final = 0.611
"""2 p / (1 + p) at the paper's share of bad images, 66 of 150."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained.

    Attributes:
        name: of its folder.
        train: words for `lineside train`.
        config: TOML that no option covers.
        pretrain: words for `lineside pretrain`; empty starts from noise.
        on: the data set.
    """

    name: str
    train: tuple[str, ...]
    config: str = ""
    pretrain: tuple[str, ...] = ()
    on: Literal["ulger", "handian"] = "ulger"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        table: "II", "III" or "memory".
        name: as in `PAPER`.
        network: whose run it is read from.
        score: a key of the run's scores.
    """

    table: str
    name: str
    network: str
    score: str


def autoencoders(epochs: int, lr: float | None) -> dict[str, Network]:
    """Each network plain and with the gradient constraint; two in gray: colour tells much."""
    networks = {}
    for arch in ("cae", "vae", "beta_vae"):
        for constrained in (False, True):
            name = f"{arch}{'_gradcon' if constrained else ''}"
            networks[name] = _autoencoder(name, arch, epochs, lr, constrained=constrained)
    for arch in ("cae", "beta_vae"):
        plain = networks[arch]
        gray = f"{plain.config}[data]\nchannels = 1\n"
        networks[f"{arch}_gray"] = replace(plain, name=f"{arch}_gray", config=gray)
    for beta in BETAS:
        if beta not in (1.0, 3.0):  # those are the VAE and the default
            name = f"beta_{beta:g}_gradcon"
            networks[name] = _autoencoder(name, "beta_vae", epochs, lr, constrained=True, beta=beta)
    return networks


def _autoencoder(
    name: str,
    arch: str,
    epochs: int,
    lr: float | None,
    *,
    constrained: bool,
    beta: float | None = None,
) -> Network:
    words: tuple[str, ...] = ("--arch", arch, "--epochs", str(epochs))
    words += () if lr is None else ("--lr", str(lr))
    return Network(
        name=name,
        train=words if beta is None else (*words, "--beta", str(beta)),
        config="" if constrained else "[train.anomaly]\nalpha = 0.0\n",
    )


def rows() -> tuple[Row, ...]:
    """Of all tables, in the paper's order."""
    found = []
    for arch, label in (("cae", "CAE"), ("vae", "VAE"), ("beta_vae", "beta-VAE")):
        for score in ("recon", "elbo", "gradcon"):
            if (arch, score) != ("cae", "elbo"):
                network = f"{arch}_gradcon" if score == "gradcon" else arch
                found.append(Row(table="II", name=f"{label} {score}", network=network, score=score))
        name = f"{label} gradcon, trained without"
        found.append(Row(table="II", name=name, network=arch, score="gradcon"))
    for beta in BETAS:
        network = {1.0: "vae_gradcon", 3.0: "beta_vae_gradcon"}.get(beta, f"beta_{beta:g}_gradcon")
        found.append(Row(table="III", name=f"beta {beta:g}", network=network, score="gradcon"))
    return tuple(found)


def memories(mae_epochs: int, simsiam_epochs: int) -> dict[str, Network]:
    """Memories on networks that were pre-trained on the good training images of the same seed.

    Each in colour and in gray, because mean colour alone tells much of these joints; and each on a
    network that was pre-trained at a rate of nothing, to show what the pre-training is worth.
    """
    networks = {}
    for method, arch, epochs in (
        ("mae", "vit_tiny", mae_epochs),
        ("simsiam", "resnet18", simsiam_epochs),
    ):
        words = ("--method", method, "--arch", arch)
        untrained = ("--epochs", "1", "--lr", "1e-12")
        for name, more, config in (
            ("", ("--epochs", str(epochs)), ""),
            ("_gray", ("--epochs", str(epochs)), "[data]\nchannels = 1\n"),
            ("_untrained", untrained, ""),
            ("_untrained_gray", untrained, "[data]\nchannels = 1\n"),
        ):
            full = f"memory_{method}_{arch}{name}"
            networks[full] = Network(name=full, train=(), pretrain=(*words, *more), config=config)
    return networks


def on_boards(epochs: int, lr: float | None, simsiam_epochs: int) -> dict[str, Network]:
    """One of each family on the through-hole joints."""
    autoencoder = _autoencoder("handian_beta_vae", "beta_vae", epochs, lr, constrained=False)
    words = ("--method", "simsiam", "--arch", "resnet18", "--epochs", str(simsiam_epochs))
    memory = Network(name="handian_memory", train=(), pretrain=words)
    return {one.name: replace(one, on="handian") for one in (autoencoder, memory)}


class Runs:
    """Where the runs are; made once, gone on with after a stop.

    Args:
        work: folder of everything.
        data: folders by data set.
        precision: "bf16" or "fp32".
        threads: of each run.
    """

    def __init__(self, work: Path, data: Mapping[str, Path], precision: str, threads: int) -> None:
        self._work, self._data = work, data
        self._precision, self._threads = precision, threads

    def make(self, network: Network, seed: int) -> dict[str, Any]:
        """One run; its `result.json`."""
        if network.on == "ulger":
            split: tuple[object, ...] = ("--group", "part", "--split-column", fold_column(seed))
            target = "class"
        else:
            split, target = ("--group", "board", "--split-seed", seed), "state"
        shared: tuple[object, ...] = ("--data", self._data[network.on], *split, "--seed", seed)
        shared = (*shared, "--precision", self._precision)
        train: tuple[object, ...] = ("--task", "anomaly", "--target", target, "--good", "normal")
        folder = self._work / network.name
        if network.config:
            config = folder / "settings.toml"
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_text(network.config, encoding="utf-8")
            shared = (*shared, "--config", config)
        if network.pretrain:
            before = folder / f"pretrain{seed}"
            self._verb("pretrain", before, *shared, *network.pretrain)
            train = (*train, "--init", before)
        return self._verb("train", folder / f"seed{seed}", *shared, *train, *network.train)

    def _verb(self, verb: str, out: Path, *options: object) -> dict[str, Any]:
        result = out / "result.json"
        if not result.exists():
            again = ("--resume",) if (out / "experiment.toml").exists() else ()
            words = [str(LINESIDE), verb, *map(str, (*options, "--out", out, *again))]
            print(f"$ {shlex.join(['lineside', *words[1:]])}", file=sys.stderr, flush=True)
            environment = os.environ | {"OMP_NUM_THREADS": str(self._threads)}
            log = out.with_suffix(".log")
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                done = subprocess.run(words, stdout=file, stderr=file, env=environment, check=False)
            if done.returncode:
                sys.exit(f"lineside {verb} ended with exit code {done.returncode}: see {log}")
        document: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return document


def fill(
    runs: Runs, networks: Sequence[Network], seeds: int, jobs: int
) -> dict[str, list[dict[str, Any]]]:
    """All runs, seed by seed so that a stopped call has whole seeds; results by network."""
    orders = [(network, seed) for seed in range(seeds) for network in networks]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        done = list(pool.map(lambda order: runs.make(*order), orders))
    found: dict[str, list[dict[str, Any]]] = {network.name: [] for network in networks}
    for (network, _), result in zip(orders, done, strict=True):
        found[network.name].append(result)
    return found


def tabulate(row: Row, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row: mean and spread over the seeds."""
    scores = [result["anomaly"]["scores"][row.score] for result in results]
    shared = {
        name: _spread([score["at_share"][name]["mean"] for score in scores])
        for name in ("precision", "recall", "f1")
    }
    return {
        "table": row.table,
        "row": row.name,
        "score": row.score,
        "seeds": len(scores),
        "paper_f1": PAPER.get(row.name),
        **shared,
        "auroc": _spread([score["auroc"]["value"] for score in scores]),
        "f1_as_is": _spread([score["f1"]["value"] for score in scores]),
        "limit_rule": sorted({score["limit_rule"] for score in scores}),
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    several = len(values) > 1
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if several else None,
        "least": min(values),
        "most": max(values),
    }


def trivial(
    networks: Mapping[str, Network], results: Mapping[str, Sequence[dict[str, Any]]], data: Path
) -> dict[str, Any]:
    """What needs no model, on the test images of each data set; means over seeds."""
    found: dict[str, Any] = {}
    for name, of_seeds in results.items():
        key = networks[name].on + (", gray" if name.endswith("gray") else "")
        leaks = [result["anomaly"]["leaks"] for result in of_seeds]
        found[key] = {
            **{
                f"{leak} as the model sees it, AUROC": statistics.fmean(
                    one["scores"][leak]["auroc"] for one in leaks
                )
                for leak in leaks[0]["scores"]
            },
            "all anomalous, F1 as is": statistics.fmean(one["all_anomalous_f1"] for one in leaks),
            "all anomalous, F1 at the paper's share": ALL_ANOMALOUS_F1,
        }
    if "ulger" in found:
        found["ulger"]["size before shrinking, AUROC"] = _size_alone(data)
    return found


def _size_alone(data: Path) -> float:
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        test = [row for row in csv.DictReader(file) if row[fold_column(0)] == "test"]
    bad = np.array([row["class"] != "normal" for row in test])
    return float(auroc(bad, np.array([float(row["pixels"]) for row in test])))


def show(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| table | row | precision | recall | F1 | paper's F1 | AUROC |"
    yield "|---|---|---|---|---|---|---|"
    for line in lines:
        cells = [_cell(line[name]) for name in ("precision", "recall", "f1")]
        paper = "" if line["paper_f1"] is None else f"{line['paper_f1']:.3f}"
        yield (
            f"| {line['table']} | {line['row']} | {' | '.join(cells)} | {paper} | "
            f"{_cell(line['auroc'])} |"
        )


def _cell(found: dict[str, float | None]) -> str:
    std = "" if found["std"] is None else f" ± {found['std']:.3f}"
    return f"{found['mean']:.3f}{std}"


def main() -> None:
    """Make the runs, write the document, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--ulger", type=Path, required=True, help="the data set, with labels.csv")
    parser.add_argument("--handian", type=Path, help="through-hole joints; left away, not run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100, help="of the autoencoders (table I)")
    parser.add_argument("--lr", type=float, help="of the autoencoders; default table I's")
    parser.add_argument("--mae-epochs", type=int, default=40)
    parser.add_argument("--simsiam-epochs", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="names of networks; default all")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--out", type=Path, default=RESULTS / "anomaly_tables.json")
    asked = parser.parse_args()
    data = asked.work / f"ulger_{SHRUNK_PX}px"
    write_shrunk_joints(asked.ulger, data)
    networks = autoencoders(asked.epochs, asked.lr)
    networks |= memories(asked.mae_epochs, asked.simsiam_epochs)
    if asked.handian:
        networks |= on_boards(asked.epochs, asked.lr, asked.simsiam_epochs)
    chosen = [networks[name] for name in asked.only or networks]
    folders = {"ulger": data} | ({"handian": asked.handian} if asked.handian else {})
    runs = Runs(asked.work, folders, asked.precision, asked.threads)
    results = fill(runs, chosen, asked.seeds, asked.jobs)
    table = [*rows(), *_further_rows(networks)]
    lines = [tabulate(row, results[row.network]) for row in table if row.network in results]
    found = {
        **circumstances("anomaly scores on shrunk solder joints: F1, precision, recall, AUROC"),
        "epochs": asked.epochs,
        "lr": asked.lr,
        "mae_epochs": asked.mae_epochs,
        "simsiam_epochs": asked.simsiam_epochs,
        "data_sha256": sorted({r["run"]["data_sha256"] for rs in results.values() for r in rs}),
        "trivial": trivial(networks, results, data),
        "rows": lines,
    }
    keep(asked.out, found)
    print("\n".join(show(lines)))


def _further_rows(names: Iterable[str]) -> Iterator[Row]:
    for name in names:
        label = name.replace("_", " ")
        if name in ("cae_gray", "beta_vae_gray"):
            for score in ("recon", "gradcon"):
                yield Row(table="gray", name=f"{label} {score}", network=name, score=score)
        elif name.startswith("memory"):
            yield Row(table="memory", name=label, network=name, score="memory")
        elif name == "handian_memory":
            yield Row(table="handian", name=label, network=name, score="memory")
        elif name.startswith("handian"):
            for score in ("recon", "elbo", "gradcon"):
                row = f"{label} {score}"
                yield Row(table="handian", name=row, network=name, score=score)


if __name__ == "__main__":
    main()
