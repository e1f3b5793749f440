"""The claim of maps, on joints whose cracks are known: a trained network is shown to look at them.

One seed and a small network on small pictures, so that CI can; three seeds, the ViT, and the other
ways of making maps are in `benchmarks/explain_joints.py`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from lineside.cli.main import lineside
from lineside.contract import InputSpec
from lineside_trainer.data.joints import JointsSettings, write_joints
from lineside_trainer.data.split import read_set_names
from lineside_trainer.evaluate.gradcam import explained_score, hires_cam, learnt_mirrors
from lineside_trainer.experiment import ModelSettings
from lineside_trainer.models import build_backbone
from lineside_trainer.models.headed import Headed
from lineside_trainer.runs.trained import Trained, read_trained
from lineside_trainer.tasks import headed

SIZE_PX = 32


@pytest.fixture(scope="module")
def joints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "joints"
    write_joints(folder, JointsSettings(parts=120, seed=11, size_px=SIZE_PX))
    return folder


@pytest.fixture(scope="module")
def trained(joints: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("runs") / "cnn"
    # A shift of 4 px is large in a picture of 32; the average of so few steps must be short.
    config = out.with_suffix(".toml")
    config.write_text('[train]\nfit.ema = 0.95\nfit.beta2 = 0.95\naugment.crop = "none"\n')
    words = ("--data", joints, "--group", "part", "--target", "delta_b_max", "--arch", "sam_cnn")
    short = ("--epochs", "10", "--batch-size", "32", "--lr", "1e-3", "--image-size", SIZE_PX)
    words = ("train", *words, *short, "--device", "cpu", "--config", config, "--out", out)
    result = CliRunner().invoke(lineside, [str(word) for word in words])
    assert result.exception is None, result.output
    return read_trained(out, "RUN")


def gray(file: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None, file
    return pixels.astype(np.uint8, copy=False)


def test_mass_lies_on_the_crack(joints: Path, trained: Trained) -> None:
    with (joints / "labels.csv").open(encoding="utf-8", newline="") as file:
        masks = {row["file"]: joints / row["crack_mask"] for row in csv.DictReader(file)}
    sets = read_set_names(trained.folder / "split.json")
    cracked = [name for name in sets["test"] if gray(masks[name]).any()]
    cracks_nhw = np.stack([gray(masks[name]) > 0 for name in cracked])
    images, training = (
        torch.from_numpy(np.stack([gray(joints / name) for name in names])[..., np.newaxis])
        for names in (cracked, sets["quantisation"])
    )
    score = explained_score(trained.contract.head, worse="higher")
    mirrors = learnt_mirrors(trained.experiment.train.augment)

    def times_its_area(network: Headed) -> float:
        maps = hires_cam(network, score, images, reference_nhwc=training, mirrors=mirrors).numpy()
        mass = maps.sum(axis=(1, 2))
        on_crack = np.divide(
            (maps * cracks_nhw).sum(axis=(1, 2)), mass, out=np.zeros_like(mass), where=mass > 0
        )
        return float(on_crack.mean() / cracks_nhw.mean())

    network = headed(trained.task())
    torch.manual_seed(0)
    spec = InputSpec(size_hw=(SIZE_PX, SIZE_PX), channels=1)
    fresh = build_backbone(ModelSettings(arch="sam_cnn"), spec)
    untrained = Headed(network.normalise, fresh, outputs=1, head_width=None)
    found, without = times_its_area(network), times_its_area(untrained)
    # Measured: 2.66 of a trained network, 1.25 of a fresh one, on 73 pictures.
    assert len(cracked) >= 50
    assert found >= 2.0 and found > without, (found, without)
