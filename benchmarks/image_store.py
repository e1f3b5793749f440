"""Images a second with the image store, and with a loader that decodes each image every epoch.

    python benchmarks/image_store.py            # writes benchmarks/results/image_store.json
    python benchmarks/image_store.py --quick    # a look, a few seconds, writes nothing

Both feed the same tiny step (normalise, one linear layer, backward, SGD), so that the figure is
that of the way of feeding. The compared loader is the usual one: torch's DataLoader over a dataset
that reads, decodes, prepares and augments one image per item, with 0 and with one worker a core.
Ways take turns within each round, so that a busy machine slows all of them alike; ratios are taken
within rounds. torch computes on one thread: with more, threads that wait for each other on a busy
core would be measured instead (20 times slower was seen on two cores with seven other programs).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from results_folder import RESULTS
from torch.utils.data import DataLoader, Dataset

from lineside.contract import InputSpec
from lineside.frame import read_frame
from lineside.preprocess import prepare
from lineside_bench.record import circumstances, keep
from lineside_trainer.data import (
    Augmentation,
    Batches,
    ImageStore,
    Table,
    augment_batch,
    read_table,
)
from lineside_trainer.data.joints import JointsSettings, write_joints

RESULT = RESULTS / "image_store.json"
BATCH = 64
LEAST_S = 1.0
AUGMENTATION = Augmentation()

Epoch = Callable[[], int]


class Setting(NamedTuple):
    """How much is measured."""

    parts: int
    size_px: int
    rounds: int
    seed: int


class DecodedEachTime(Dataset[torch.Tensor]):
    """One image an item: read, decode, prepare, flip, crop."""

    def __init__(self, table: Table, model_input: InputSpec) -> None:
        self._files = [record.file for record in table.records]
        self._frame = table.frame
        self._input = model_input

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> torch.Tensor:
        pixels = prepare(read_frame(self._files[row]).pixels_hwc, self._frame, self._input)
        return torch.from_numpy(flip_and_crop(pixels).transpose(2, 0, 1).copy())


def flip_and_crop(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What `augment_batch` does, to one image."""
    reach = AUGMENTATION.crop_px
    height, width = pixels_hwc.shape[:2]
    draws = torch.rand(4).tolist()
    if draws[0] < 0.5:
        pixels_hwc = pixels_hwc[:, ::-1]
    if draws[1] < 0.5:
        pixels_hwc = pixels_hwc[::-1]
    padded = np.pad(pixels_hwc, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    y, x = (int(draw * (2 * reach + 1)) for draw in draws[2:])
    return padded[y : y + height, x : x + width]


class TinyStep:
    """The least that can be called a training step."""

    def __init__(self, model_input: InputSpec, device: str) -> None:
        pixels = model_input.size_hw[0] * model_input.size_hw[1] * model_input.channels
        self._layer = torch.nn.Linear(pixels, 1).to(device)
        self._optimiser = torch.optim.SGD(self._layer.parameters(), lr=1e-6)

    def __call__(self, images_nchw: torch.Tensor) -> None:
        """One step on (N, C, H, W) uint8."""
        loss = self._layer(images_nchw.flatten(1).float() / 255).square().mean()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()


def plain_epoch(loader: Iterable[torch.Tensor], step: TinyStep, device: str) -> Epoch:
    """A pass of the compared loader."""

    def run() -> int:
        seen = 0
        for images in loader:
            step(images.to(device))
            seen += len(images)
        return seen

    return run


def store_epoch(store: ImageStore, step: TinyStep, seed: int) -> Epoch:
    """A pass over the store."""
    rows = np.arange(len(store))
    batches = Batches(store, rows, None, batch_size=BATCH, seed=seed, shuffle=True, drop_last=False)
    generator = torch.Generator().manual_seed(seed)

    def run() -> int:
        seen = 0
        for batch in batches:
            step(augment_batch(batch.images_nhwc.permute(0, 3, 1, 2), AUGMENTATION, generator))
            seen += len(batch.positions)
        return seen

    return run


def images_per_s(epoch: Epoch, device: str) -> float:
    """Whole passes for at least a second, timed to the end of the last step."""
    start = time.perf_counter()
    seen = 0
    while time.perf_counter() - start < LEAST_S:
        seen += epoch()
        if device == "cuda":
            torch.cuda.synchronize()
    return seen / (time.perf_counter() - start)


def measure(setting: Setting, folder: Path) -> dict[str, object]:
    """All ways in turns, after one pass each that is not counted."""
    settings = JointsSettings(parts=setting.parts, seed=setting.seed, size_px=setting.size_px)
    write_joints(folder / "joints", settings)
    start = time.perf_counter()
    table = read_table(folder / "joints", target=None, group="part")
    read_s = time.perf_counter() - start
    model_input = InputSpec(size_hw=(setting.size_px, setting.size_px), channels=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = time.perf_counter()
    store = ImageStore.build(table, model_input)
    build_s = time.perf_counter() - start
    store = store.to(device)
    ways: dict[str, Epoch] = {}
    for workers in (0, os.cpu_count() or 1):
        loader = DataLoader(
            DecodedEachTime(table, model_input),
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        ways[f"loader, {workers} workers"] = plain_epoch(
            loader, TinyStep(model_input, device), device
        )
    ways[f"store on {store.device.type}"] = store_epoch(
        store, TinyStep(model_input, device), setting.seed
    )
    figures = in_turns(ways, setting.rounds, device)
    return {
        "images": len(store),
        "images_sha256": store.digest,
        "read_and_decode_s": round(read_s, 3),
        "store_build_s": round(build_s, 3),
        "device": device,
        **summary(figures),
    }


def in_turns(ways: dict[str, Epoch], rounds: int, device: str) -> dict[str, list[float]]:
    """Images a second, by way and round."""
    for epoch in ways.values():
        epoch()
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, epoch in ways.items():
            figures[name].append(images_per_s(epoch, device))
    return figures


def summary(figures: dict[str, list[float]]) -> dict[str, object]:
    """Medians, and how many times faster the store is, within each round."""
    store = next(name for name in figures if name.startswith("store"))
    ratios = {
        name: [fast / slow for fast, slow in zip(figures[store], values, strict=True)]
        for name, values in figures.items()
        if name != store
    }
    return {
        "images_per_s": {
            name: {
                "median": round(statistics.median(values)),
                "rounds": [round(value) for value in values],
            }
            for name, values in figures.items()
        },
        "store_times_faster_than": {
            name: {
                "median": round(statistics.median(values), 1),
                "least": round(min(values), 1),
                "most": round(max(values), 1),
            }
            for name, values in ratios.items()
        },
    }


def main() -> None:
    """Measure, print, and write unless it was only a look."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--parts", type=int, default=200, help="synthetic parts, five images each")
    parser.add_argument("--size", type=int, default=64, help="edge of the images, pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="small and short; nothing is written")
    asked = parser.parse_args()
    setting = Setting(asked.parts, asked.size, asked.rounds, asked.seed)
    if asked.quick:
        setting = setting._replace(parts=20, rounds=3)
    torch.manual_seed(asked.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(setting, Path(folder))
    result = {
        **circumstances(
            "images a second into a tiny training step, augmentation included",
            str(measured["device"]),
        ),
        **setting._asdict(),
        "batch_images": BATCH,
        "torch_threads": torch.get_num_threads(),
        **measured,
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if not asked.quick:
        keep(asked.out, result)


if __name__ == "__main__":
    main()
