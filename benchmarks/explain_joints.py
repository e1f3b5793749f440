"""Whether maps of where a network looked lie on the cracks of synthetic joints.

    python benchmarks/explain_joints.py --work WORK  # writes benchmarks/results/explain_joints.json

Networks are trained on ΔB_max alone, by `lineside train`; none ever sees a crack mask. Of test
images that have a crack: the share of the map's mass that lies on the crack mask, over the share of
the picture that the crack covers, both means over images. An even map gets 1; `ceiling` is what the
mask itself gets when it is shown in 8x8 cells, the patches of the ViT. Beside each network stands
the same one untrained, and beside the map that `lineside explain` draws by default stand its other
one and maps without their parts. All parts were chosen on validation images. A run that is finished
in WORK is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from results_folder import RESULTS
from torch import Tensor
from torch.nn import functional

from lineside_bench.record import circumstances, keep
from lineside_trainer.data.joints import JointsSettings, write_joints
from lineside_trainer.data.split import read_set_names
from lineside_trainer.evaluate.gradcam import (
    AS_IT_IS,
    REFERENCE_IMAGES,
    Mirror,
    explained_score,
    learnt_mirrors,
    spread_places,
)
from lineside_trainer.models.headed import Headed
from lineside_trainer.runs.trained import Trained, read_trained
from lineside_trainer.tasks import build_task, headed
from lineside_trainer.telling.explaining import METHODS

ROOT: Final = Path(__file__).parent.parent
RESULT: Final = RESULTS / "explain_joints.json"
DATA: Final = JointsSettings(parts=1500, seed=11, size_px=64)
SEEDS: Final = (0, 1, 2)
EPOCHS: Final = 4
ARCHES: Final = ("vit_tiny", "sam_cnn")
GRID_HW: Final = (8, 8)
AS_SHOWN: Final = "hirescam, reference and mirrored copies"
EXPERIMENT: Final = """
[train.fit]
batch_size = 32
lr = 5e-4
beta2 = 0.95
layer_decay = 1.0
ema = 0.99
[train.augment]
crop = "none"
"""

Maps = Callable[[Headed, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Cracked:
    """Test images with a crack, and training images.

    Attributes:
        images_nhwc: (N, H, W, 1) uint8.
        cracks_nhw: (N, H, W) bool.
        training_nhwc: (M, H, W, 1) uint8, for reference.
    """

    images_nhwc: Tensor
    cracks_nhw: NDArray[np.bool_]
    training_nhwc: Tensor


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Of one network; `ratio` is by way of mapping and by whether it was trained."""

    arch: str
    seed: int
    test_mse: float
    mean_predictor_mse: float
    training_s: float
    measuring_s: float
    test_images_with_crack: int
    crack_share_of_area: float
    ceiling: float
    ratio: dict[str, float]


def train(work: Path, arch: str, seed: int, epochs: int) -> Path:
    """`lineside train`, unless that is done; gone on with where it was stopped."""
    run, config = work / f"{arch}_seed_{seed}", work / "experiment.toml"
    if (run / "result.json").exists():
        return run
    options = ["--data", work / "joints", "--target", "delta_b_max", "--group", "part"]
    options += ["--arch", arch]
    options += ["--seed", seed, "--epochs", epochs, "--precision", "bf16", "--device", "cpu"]
    more = ["--resume"] if (run / "last.ckpt").exists() else []
    lineside = Path(sys.executable).with_name("lineside")
    words = [lineside, "train", *options, "--config", config, "--out", run, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in words], env=environment, check=True)
    return run


def train_all(work: Path, data: JointsSettings, epochs: int, at_once: int) -> list[Path]:
    """The runs' folders; networks train side by side, a core each."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "experiment.toml").write_text(EXPERIMENT, encoding="utf-8")
    if not (work / "joints").exists():
        write_joints(work / "joints", data)
    with ThreadPoolExecutor(at_once) as pool:
        pairs = itertools.product(ARCHES, SEEDS)
        return list(pool.map(lambda pair: train(work, pair[0], pair[1], epochs), pairs))


def read_cracked(run: Path, folder: Path, most: int) -> Cracked:
    """Of the run's own split; the test images spread over all of them."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        masks = {row["file"]: folder / row["crack_mask"] for row in csv.DictReader(file)}
    sets = read_set_names(run / "split.json")
    cracked = [name for name in sets["test"] if _gray(masks[name]).any()]
    names = [cracked[place] for place in spread_places(len(cracked), most)]
    chosen = spread_places(len(sets["quantisation"]), REFERENCE_IMAGES)
    training = [sets["quantisation"][place] for place in chosen]
    return Cracked(
        images_nhwc=_stack([folder / name for name in names]),
        cracks_nhw=np.stack([_gray(masks[name]) > 0 for name in names]),
        training_nhwc=_stack([folder / name for name in training]),
    )


def ways(trained: Trained, cracked: Cracked) -> dict[str, Maps]:
    """Maps by name: what `lineside explain` draws, and the same without its parts."""
    settings = trained.experiment.train
    score = explained_score(trained.contract.head, worse=settings.worse)
    mirrors, training = learnt_mirrors(settings.augment), cracked.training_nhwc

    def way(
        method: str, reference_nhwc: Tensor | None = training, mirrors: Sequence[Mirror] = mirrors
    ) -> Maps:
        return lambda network, images: METHODS[method](
            network, score, images, reference_nhwc=reference_nhwc, mirrors=mirrors
        )

    return {
        AS_SHOWN: way("hirescam"),
        "hirescam, reference": way("hirescam", mirrors=AS_IT_IS),
        "hirescam": way("hirescam", None, AS_IT_IS),
        "gradcam, reference and mirrored copies": way("gradcam"),
        "gradcam, reference": way("gradcam", mirrors=AS_IT_IS),
        "gradcam": way("gradcam", None, AS_IT_IS),
    }


def crack_ratio(maps_nhw: NDArray[np.float32], cracks_nhw: NDArray[np.bool_]) -> float:
    """Mean share of the mass on the crack over the crack's mean share of the area; an empty map
    has no mass anywhere."""
    mass = maps_nhw.sum(axis=(1, 2), dtype=np.float64)
    on_crack = (maps_nhw * cracks_nhw).sum(axis=(1, 2), dtype=np.float64)
    share = np.divide(on_crack, mass, out=np.zeros_like(mass), where=mass > 0)
    return float(share.mean() / cracks_nhw.mean())


def ceiling(cracks_nhw: NDArray[np.bool_], grid_hw: tuple[int, int]) -> float:
    """What the mask gets that was averaged over the map's cells and drawn as maps are."""
    masks = torch.from_numpy(cracks_nhw).float()[:, None]
    cells = functional.adaptive_avg_pool2d(masks, grid_hw)
    size_hw = cracks_nhw.shape[1:]
    drawn = functional.interpolate(cells, size=size_hw, mode="bilinear", align_corners=False)
    return crack_ratio(drawn[:, 0].numpy(), cracks_nhw)


def measure(run: Path, folder: Path, most: int) -> Measured:
    """One network, trained and not."""
    trained = read_trained(run, "RUN")
    cracked = read_cracked(run, folder, most)
    networks = {"trained": headed(trained.task()), "untrained": untrained(trained)}
    started = time.monotonic()
    ratio = {
        f"{name}: {state}": round(_ratio(make, network, cracked), 3)
        for name, make in ways(trained, cracked).items()
        for state, network in networks.items()
    }
    return Measured(
        arch=trained.result.arch,
        seed=trained.result.run.seed,
        test_mse=trained.result.test["mse"].value,
        mean_predictor_mse=trained.result.baseline["mse"].value,
        training_s=round(trained.result.run.seconds, 1),
        measuring_s=round(time.monotonic() - started, 1),
        test_images_with_crack=len(cracked.images_nhwc),
        crack_share_of_area=round(float(cracked.cracks_nhw.mean()), 4),
        ceiling=round(ceiling(cracked.cracks_nhw, GRID_HW), 3),
        ratio=ratio,
    )


def untrained(trained: Trained) -> Headed:
    """As a training begins: random weights, but the pixel figures of its images."""
    torch.manual_seed(trained.result.run.seed)
    normalise = headed(trained.task()).normalise
    task = build_task(
        trained.experiment, trained.contract.input, normalise, np.array([0.0, 1.0]), ()
    )
    task.eval().requires_grad_(False)
    return headed(task)


def summary(runs: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Mean and spread over the seeds of one network."""
    found: dict[str, dict[str, float]] = {}
    for name in runs[0].ratio:
        values = [run.ratio[name] for run in runs]
        found[name] = {
            "mean": round(statistics.fmean(values), 3),
            "std": round(statistics.stdev(values), 3),
            "least": min(values),
        }
    return found


def recorded(runs: list[Measured], data: JointsSettings, epochs: int) -> dict[str, object]:
    """What is kept, with all that it was made by."""
    return {
        **circumstances(
            "share of a map's mass on the crack mask, over the crack's share of the area"
        ),
        "data": msgspec.to_builtins(data),
        "training": f"64x64, ViT's patch 8, from noise, {epochs} epochs, bf16;{EXPERIMENT}",
        "shown": AS_SHOWN,
        "over_seeds": {arch: summary([run for run in runs if run.arch == arch]) for arch in ARCHES},
        "runs": msgspec.to_builtins(runs),
    }


def main() -> None:
    """Train, measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of images and runs")
    parser.add_argument("--at-once", type=int, default=2, help="networks trained side by side")
    parser.add_argument("--images", type=int, default=300, help="test images measured, at most")
    parser.add_argument("--quick", action="store_true", help="few images; nothing is written")
    asked = parser.parse_args()
    data = msgspec.structs.replace(DATA, parts=60) if asked.quick else DATA
    epochs = 1 if asked.quick else EPOCHS
    work = asked.work / f"explain_{data.parts}_parts_{epochs}_epochs"
    folders = train_all(work, data, epochs, asked.at_once)
    runs = [measure(folder, work / "joints", asked.images) for folder in folders]
    found = recorded(runs, data, epochs)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    if not asked.quick:
        keep(RESULT, found)


def _ratio(make: Maps, network: Headed, cracked: Cracked) -> float:
    return crack_ratio(make(network, cracked.images_nhwc).numpy(), cracked.cracks_nhw)


def _gray(file: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None, file
    return pixels.astype(np.uint8, copy=False)


def _stack(files: list[Path]) -> Tensor:
    return torch.from_numpy(np.stack([_gray(file) for file in files])[..., np.newaxis])


if __name__ == "__main__":
    main()
