"""Every method as people use it: pre-train, look, go on after a stop, tune from what was learnt."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_plates import write_plates
from command_line import call, succeed

from lineside.contract import InputSpec
from lineside_trainer.data import Augmentation, Batches, ImageStore
from lineside_trainer.durable import read_weights
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.experiment import FitSettings, RunSettings, Table
from lineside_trainer.experiment_file import (
    convert_experiment,
    read_experiment,
)
from lineside_trainer.learning.fit import fit
from lineside_trainer.learning.loop import METRICS, FitData
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models import Normalise
from lineside_trainer.pretrain import METHODS, Method, build_method
from lineside_trainer.runs.logbook import Row

NETWORKS = {
    "mae": ("--arch", "vit_tiny", "--patch", "8"),
    "simmim": ("--arch", "vit_tiny", "--patch", "8"),
    "simsiam": ("--arch", "test_resnet"),
}
SMALL = ("--image-size", "32", "--batch-size", "8", "--device", "cpu")
JUDGED_BY = {"mae": "masked MSE", "simmim": "masked L1", "simsiam": "negative cosine"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plates(
        tmp_path_factory.mktemp("images"),
        size_hw=(32, 32),
        parts=60,
        views=1,
        levels=(40, 200),
        noise=30,
    )


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One finished run of each method."""
    folder = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        succeed(
            *("pretrain", "--data", images, "--method", method, "--out", folder / method),
            *(*NETWORKS[method], *SMALL, "--epochs", "2"),
        )
    return {method: folder / method for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_the_report_speaks_of_the_method_it_is_about(method: str, runs: dict[str, Path]) -> None:
    page = (runs[method] / "report.html").read_text()
    assert f"Pre-training: {method}" in page
    result = json.loads((runs[method] / "result.json").read_text())
    assert result["judged_by"] == JUDGED_BY[method]
    assert JUDGED_BY[method] in page
    others = [words for name, words in JUDGED_BY.items() if name != method]
    assert not any(words in page for words in others)
    figures = {path.name for path in (runs[method] / "figures").iterdir()}
    siamese = {"embedding_std.png"} if method == "simsiam" else set()
    assert figures == {"curves.png", "examples.png"} | siamese
    assert ("Two views" in page) == ("embedding_std" in page) == (method == "simsiam")
    assert ("Masked and reconstructed" in page) == (method != "simsiam")


def test_siamese_runs_write_down_how_embeddings_are_spread(runs: dict[str, Path]) -> None:
    with (runs["simsiam"] / METRICS).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    # Of 96 channels: at most 1/sqrt(96) each, and along 1 to 95 directions.
    assert all(0 < float(row["embedding_std"]) <= 96**-0.5 for row in rows)
    assert all(1 <= float(row["embedding_rank"]) <= 95 for row in rows)
    with (runs["mae"] / METRICS).open() as file:
        assert "embedding_std" not in next(csv.reader(file))


def test_siamese_runs_keep_their_last_epoch(runs: dict[str, Path]) -> None:
    result = json.loads((runs["simsiam"] / "result.json").read_text())
    assert result["run"]["validation"]["best_epoch"] == 1
    experiment = read_experiment(runs["simsiam"] / "experiment.toml", {})
    assert experiment.pretrain.augment.crop == "none"


@pytest.mark.parametrize("method", ["simmim", "simsiam"])  # mae's is tuned in test_cli_training
def test_tuning_starts_from_what_was_learnt(
    method: str, images: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    """The rate is next to nothing, so the tuned backbone is still the one that was handed on."""
    succeed(
        *("train", "--data", images, "--target", "damage", "--init", runs[method]),
        *("--out", tmp_path / "tuned", "--epochs", "1", "--batch-size", "8", "--device", "cpu"),
        *("--lr", "1e-12"),
    )
    handed_on = read_weights(runs[method] / "backbone.pt")
    tuned = read_weights(tmp_path / "tuned" / "best.pt")
    learnt = {name: value for name, value in handed_on.items() if "running" not in name}
    for name, value in learnt.items():
        (found,) = [v for key, v in tuned.items() if key.endswith(f"backbone.net.{name}")]
        assert torch.allclose(found.float(), value.float(), atol=1e-6) or "num_batches" in name
    assert f"Pre-training ({method})" in (tmp_path / "tuned" / "report.html").read_text()


class StopAt(Progress):
    """The user presses Ctrl-C after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__("test", 100)
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def epoch(self, row: Row) -> None:
        pass


def learn(method: str, folder: Path, *, stop_after: int = 9999, resume: bool = False) -> Method:
    """Two epochs of two steps each, with an averaged twin."""
    model = dict(zip(("arch", "patch_px"), NETWORKS[method][1::2], strict=False))
    model |= {"patch_px": int(model.get("patch_px", 8))}
    table: Table = {"model": model, "pretrain": {"method": method}}
    experiment = convert_experiment(table, source="test")
    torch.manual_seed(5 if resume else 4)  # what the state was when a process began must not matter
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = build_method(
            experiment, InputSpec(size_hw=(32, 32), channels=1), Normalise((127.0,), (60.0,))
        )
    pixels = torch.randint(0, 256, (20, 32, 32, 1), dtype=torch.uint8, generator=seeded())
    store, rows = ImageStore(images_nhwc=pixels), np.arange(20)
    batches = partial(Batches, store, targets=None, batch_size=8, seed=0)
    data = FitData(
        training=batches(indices=rows[:16], shuffle=True, drop_last=True),
        judging=batches(indices=rows[16:], shuffle=False, drop_last=False),
        image_size_hw=(32, 32),
        digest="same",
    )
    folder.mkdir(exist_ok=True)
    fit(
        learner,
        data,
        settings=FitSettings(epochs=2, batch_size=8, lr=1e-3, ema=0.9),
        augment=Augmentation(),
        run=RunSettings(device="cpu", checkpoint_every_steps=1),
        folder=folder,
        resume=resume,
        progress=StopAt(stop_after),
    )
    return learner


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("method", METHODS)
def test_going_on_gives_the_same_bytes(method: str, tmp_path: Path) -> None:
    """Batch norm's figures and the averaged twin's go through the checkpoint too."""
    whole = learn(method, tmp_path / "whole").state_dict()
    with pytest.raises(KeyboardInterrupt):
        learn(method, tmp_path / "parts", stop_after=3)
    found = learn(method, tmp_path / "parts", resume=True).state_dict()
    assert whole.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in whole.items())
    first, second = ((tmp_path / run / METRICS).read_text() for run in ("whole", "parts"))
    told = [[row.split(",")[i] for i in (0, 1, 2, 3)] for row in first.splitlines()]
    assert told == [[row.split(",")[i] for i in (0, 1, 2, 3)] for row in second.splitlines()]


def test_a_hidden_share_is_for_methods_that_hide(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = call(
        *("pretrain", "--data", images, "--out", out, "--method", "simsiam"),
        *("--mask-ratio", "0.5", *NETWORKS["simsiam"], *SMALL),
    )
    assert result.exit_code == 2 and "simsiam hides nothing" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("--method", "mae", "--arch", "resnet18"), ExperimentError, "no patches to leave out"),
        (("--method", "simmim", "--arch", "resnet18"), ExperimentError, "no patches to hide"),
        (("--method", "simsiam", "--batch-size", "4"), ExperimentError, "--batch-size 8"),
        (("--method", "moco"), ExperimentError, "there are mae, simmim, simsiam"),
    ],
)
def test_what_cannot_learn_is_refused_before_images_are_read(
    arguments: tuple[str, ...], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    """The folder of images is not even there."""
    result = call(*("pretrain", "--data", tmp_path / "gone", "--out", tmp_path / "run", *arguments))
    assert isinstance(result.exception, kind), (result.output, result.exception)
    assert message in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_too_few_images_for_batch_norm_are_refused(images: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    lines = (images / "labels.csv").read_text().splitlines()[:13]
    (few / "labels.csv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        name = line.split(",")[0]
        (few / name).write_bytes((images / name).read_bytes())
    result = call(
        *("pretrain", "--data", few, "--method", "simsiam", "--out", tmp_path / "run"),
        *(*NETWORKS["simsiam"], *SMALL, "--epochs", "1"),
    )
    assert isinstance(result.exception, DataError), (result.output, result.exception)
