"""Images a second of `lineside pretrain`, beside a plain training loop with the same network.

    python benchmarks/training_speed.py            # writes benchmarks/results/training_speed.json
    python benchmarks/training_speed.py --quick    # a look, under a minute, writes nothing

`lineside` is the loop that the verb runs: image store, whole batches augmented at once, lightning,
averaging and logbook as they are. `plain` is what one writes first: torch's DataLoader over a
dataset that decodes, prepares and augments one image an item, with 0 and with one worker a core,
and a bare loop around the same masked autoencoder, loss, AdamW and clipping. Ways take turns within
each round, so that a busy machine slows all of them alike; ratios are taken within rounds.

`not_in_network` is measured inside the first way, step by step: all that does not lie between the
beginning of the loss and the end of the optimiser's step. Judging and saving between epochs are
left out, as from images/s in `metrics.csv`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from record import RESULTS, circumstances, keep
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from lineside.frame import read_frame
from lineside.preprocess import prepare
from lineside_trainer.data.joints import JointsSettings, write_joints
from lineside_trainer.experiment import Experiment, Table
from lineside_trainer.experiment_file import (
    convert_experiment,
)
from lineside_trainer.learning.descent import make_optimizer
from lineside_trainer.learning.device import choose_device, choose_precision
from lineside_trainer.learning.fit import fit
from lineside_trainer.learning.learner import Learner
from lineside_trainer.learning.progress import Progress
from lineside_trainer.models import use_fused_attention
from lineside_trainer.prepared import IntArray, Prepared, prepare_data
from lineside_trainer.pretrain import Method, build_method

RESULT: Final = RESULTS / "training_speed.json"
_MATMUL: Final = {"cpu": 1536, "cuda": 8192}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How much is measured; one epoch a round is not counted."""

    parts: int
    size_px: int
    arch: str
    batch_images: int
    epochs: int
    rounds: int
    seed: int


@dataclass
class Watch:
    """Where a step's time goes.

    Attributes:
        spans: (network, whole) seconds of each step that another step came just before.
    """

    device: str
    spans: list[tuple[float, float]] = field(default_factory=list)
    _began_s: float = 0.0
    _ended_s: float | None = None

    def now_s(self) -> float:
        """When all that was asked of the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def loss_begins(self) -> None:
        """From here on it is the network's time."""
        self._began_s = self.now_s()

    def step_ends(self, *_: object) -> None:
        """Up to here it was."""
        now_s = self.now_s()
        if self._ended_s is not None:
            self.spans.append((now_s - self._began_s, now_s - self._ended_s))
        self._ended_s = now_s

    def epoch_ends(self) -> None:
        """What comes before the next step is judging and saving."""
        self._ended_s = None

    def share_outside(self) -> float:
        """Of the time, what is not the network's."""
        network, whole = (sum(times) for times in zip(*self.spans, strict=True))
        return float(1.0 - network / whole)


class Watched(Progress):
    """Tells the watch when an epoch ends, and people nothing."""

    def __init__(self, watch: Watch) -> None:
        super().__init__("", 1, shown=False)
        self._watch = watch

    def epoch(self, row: object) -> None:  # noqa: ARG002
        self._watch.epoch_ends()


@contextmanager
def watched(learner: Learner, watch: Watch) -> Iterator[None]:
    """Time a learner's steps, wherever they are made."""
    loss = learner.loss

    def timed(images_nhwc: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        watch.loss_begins()
        return loss(images_nhwc, targets, generator)

    learner.loss = timed  # type: ignore[method-assign]
    hook = register_optimizer_step_post_hook(watch.step_ends)
    try:
        yield
    finally:
        hook.remove()
        del learner.loss


class DecodedEachTime(Dataset[Tensor]):
    """One image an item: read, decode, prepare, flip, crop."""

    def __init__(self, prepared: Prepared, rows: IntArray, reach_px: int) -> None:
        self._files = [prepared.table.records[row].file for row in rows]
        self._frame, self._input = prepared.table.frame, prepared.input
        self._reach_px = reach_px

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> Tensor:
        pixels = prepare(read_frame(self._files[row]).pixels_hwc, self._frame, self._input)
        return torch.from_numpy(flip_and_crop(pixels, self._reach_px).copy())


def flip_and_crop(pixels_hwc: NDArray[np.uint8], reach_px: int) -> NDArray[np.uint8]:
    """What `augment_batch` does by default, to one image."""
    height, width = pixels_hwc.shape[:2]
    draws = torch.rand(4).tolist()
    if draws[0] < 0.5:
        pixels_hwc = pixels_hwc[:, ::-1]
    if draws[1] < 0.5:
        pixels_hwc = pixels_hwc[::-1]
    margin = ((reach_px, reach_px), (reach_px, reach_px), (0, 0))
    padded = np.pad(pixels_hwc, margin, mode="reflect")
    y, x = (int(draw * (2 * reach_px + 1)) for draw in draws[2:])
    return padded[y : y + height, x : x + width]


def fresh(experiment: Experiment, prepared: Prepared, device: str) -> Method:
    """The same network each time."""
    torch.manual_seed(experiment.run.seed)
    method = build_method(experiment, prepared.input, prepared.normalise())
    use_fused_attention(method, fused=device == "cuda")
    return method


def lineside_epochs(experiment: Experiment, prepared: Prepared, device: str, watch: Watch) -> float:
    """Median images/s over the epochs but the first."""
    settings, split = experiment.pretrain, prepared.split.indices
    learner = fresh(experiment, prepared, device)
    data = prepared.batches(
        split["training"],
        split["quantisation"],
        settings=settings.fit,
        seed=experiment.run.seed,
        device=device,
    )
    with tempfile.TemporaryDirectory() as folder, watched(learner, watch):
        result = fit(
            learner,
            data,
            settings=settings.fit,
            augment=settings.augment,
            run=experiment.run,
            folder=Path(folder),
            resume=False,
            progress=Watched(watch),
        )
    return statistics.median(row.images_per_s for row in result.rows[1:])


def plain_epochs(experiment: Experiment, prepared: Prepared, device: str, workers: int) -> float:
    """Likewise, of the loop that one writes first."""
    settings = experiment.pretrain
    learner = fresh(experiment, prepared, device).to(device)
    optimizer = make_optimizer(learner.layers(), settings.fit)
    loader = DataLoader(
        DecodedEachTime(prepared, prepared.split.indices["training"], settings.augment.crop_px),
        batch_size=settings.fit.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )
    generator = torch.Generator().manual_seed(experiment.run.seed)
    half = choose_precision(experiment.run, device) == "bf16"
    speeds = []
    for _ in range(settings.fit.epochs):
        start_s = time.perf_counter()
        for images_nhwc in loader:
            one_step(learner, optimizer, images_nhwc.to(device), generator, half=half)
        if device == "cuda":
            torch.cuda.synchronize()
        seen = len(loader) * settings.fit.batch_size
        speeds.append(seen / (time.perf_counter() - start_s))
    return statistics.median(speeds[1:])


def one_step(
    learner: Learner,
    optimizer: Optimizer,
    images_nhwc: Tensor,
    generator: torch.Generator,
    *,
    half: bool,
) -> None:
    """Loss, gradient, clipping, AdamW."""
    with torch.autocast(images_nhwc.device.type, torch.bfloat16, enabled=half):
        loss = learner.loss(images_nhwc, torch.empty(0), generator)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimizer.step()


def flops_an_image(experiment: Experiment, prepared: Prepared, device: str) -> float:
    """Of the products of one step, forwards and backwards, as torch counts them."""
    count = experiment.pretrain.fit.batch_size
    learner = fresh(experiment, prepared, device).to(device)
    images_nhwc = prepared.store.images_nhwc[:count].to(device)
    generator = torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(learner.loss(images_nhwc, torch.empty(0), generator))
    return float(counter.get_total_flops() / len(images_nhwc))


def peak_flops(device: str, *, half: bool) -> float:
    """A large product's operations a second on this device, the best of ten."""
    side = _MATMUL[device]
    kind = torch.bfloat16 if half else torch.float32
    one, other = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    watch, took_s = Watch(device), []
    for _ in range(10):
        start_s = watch.now_s()
        one @ other
        took_s.append(watch.now_s() - start_s)
    return float(2 * side**3 / min(took_s))


def measure(setting: Setting, folder: Path) -> dict[str, object]:
    """All ways in turns."""
    joints = JointsSettings(parts=setting.parts, seed=setting.seed, size_px=setting.size_px)
    write_joints(folder / "joints", joints)
    experiment = make_experiment(setting, folder / "joints")
    prepared = prepare_data(experiment, target=None, folder=folder)
    device = choose_device(experiment.run)
    half = choose_precision(experiment.run, device) == "bf16"
    shares: list[float] = []

    def lineside() -> float:
        watch = Watch(device)
        speed = lineside_epochs(experiment, prepared, device, watch)
        shares.append(watch.share_outside())
        return speed

    ways: dict[str, Callable[[], float]] = {"lineside": lineside}
    for workers in (0, os.cpu_count() or 1):
        ways[f"plain, {workers} workers"] = functools.partial(
            plain_epochs, experiment, prepared, device, workers
        )
    peak, figures = peak_flops(device, half=half), in_turns(ways, setting.rounds)
    an_image = flops_an_image(experiment, prepared, device)
    of_peak = [speed * an_image / peak for speed in figures["lineside"]]
    return {
        "images": len(prepared.split.indices["training"]),
        "data_sha256": prepared.digest,
        "device": device,
        "precision": "bf16" if half else "fp32",
        "images_per_s": {name: spread(speeds, 1) for name, speeds in figures.items()},
        "lineside_times_faster_than": {
            name: spread(
                [own / other for own, other in zip(figures["lineside"], speeds, strict=True)], 2
            )
            for name, speeds in figures.items()
            if name != "lineside"
        },
        "not_in_network": spread(shares, 4),
        "flops_an_image": round(an_image),
        "peak_flops_per_s": {"of a product of size": _MATMUL[device], "measured": round(peak)},
        "share_of_peak": spread(of_peak, 3),
    }


def make_experiment(setting: Setting, joints: Path) -> Experiment:
    """`lineside pretrain --method mae`, as the verb has it by default."""
    told: Table = {
        "data": {
            "folder": str(joints),
            "group": "part",
            "image_size_hw": [setting.size_px, setting.size_px],
        },
        "model": {"arch": setting.arch},
        "pretrain": {"fit": {"epochs": setting.epochs, "batch_size": setting.batch_images}},
        "run": {"seed": setting.seed, "checkpoint_every_s": 1e9},
    }
    return convert_experiment(told, source="benchmark")


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Images a second, by way and round."""
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            figures[name].append(way())
    return figures


def spread(values: list[float], digits: int) -> dict[str, object]:
    """Median and every round."""
    rounded = [round(value, digits) for value in values]
    return {"median": round(statistics.median(values), digits), "rounds": rounded}


def main() -> None:
    """Measure, print, and write unless it was only a look."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--parts", type=int, default=200, help="synthetic parts, five images each")
    parser.add_argument("--size", type=int, default=64, help="edge of the images, pixels")
    parser.add_argument("--arch", default="vit_tiny")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4, help="a round; the first is not counted")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="small and short; nothing is written")
    asked = parser.parse_args()
    quick = asked.quick
    setting = Setting(
        parts=40 if quick else asked.parts,
        size_px=asked.size,
        arch=asked.arch,
        batch_images=16 if quick else asked.batch_size,
        epochs=2 if quick else asked.epochs,
        rounds=1 if quick else asked.rounds,
        seed=asked.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(setting, Path(folder))
    result = {
        **circumstances(
            "images a second of masked autoencoding, loading and augmentation included",
            str(measured["device"]),
        ),
        **asdict(setting),
        "torch_threads": torch.get_num_threads(),
        **measured,
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if not quick:
        keep(asked.out, result)


if __name__ == "__main__":
    main()
