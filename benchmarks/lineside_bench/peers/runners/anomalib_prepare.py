"""Make a PatchCore for `OpenVINOInferencer`: ResNet-18 from noise (nothing is downloaded), 64 px,
1,000 patches, exported by anomalib itself. `python anomalib_prepare.py IMAGES.npy OUT`.

It judges nothing; its shape decides what it costs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from anomalib.data import Folder
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import Patchcore
from PIL import Image

PATCHES = 1000
GOOD_IMAGES = 32
PATCHES_AN_IMAGE = 64  # layer2 of ResNet-18 makes 8 x 8 of 64 x 64 pixels


def main() -> None:
    """Noisy copies of the images are good parts."""
    images, out = np.load(sys.argv[1]), Path(sys.argv[2])
    good = out / "data" / "good"
    good.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(GOOD_IMAGES):
        image = images[number % len(images)].astype(np.int16)
        noisy = np.clip(image + draw.integers(-5, 6, image.shape), 0, 255).astype(np.uint8)
        shown = np.repeat(noisy, 3, axis=2) if noisy.shape[2] == 1 else noisy
        Image.fromarray(shown).save(good / f"{number:03}.png")
    side_px = images.shape[1]
    model = Patchcore(
        backbone="resnet18",
        layers=["layer2", "layer3"],
        pre_trained=False,
        coreset_sampling_ratio=PATCHES / (GOOD_IMAGES * PATCHES_AN_IMAGE),
        pre_processor=Patchcore.configure_pre_processor(image_size=(side_px, side_px)),
        evaluator=False,
        visualizer=False,
    )
    data = Folder(
        name="good",
        root=out / "data",
        normal_dir="good",
        train_batch_size=8,
        num_workers=0,
        val_split_mode="synthetic",  # defects are drawn: thresholds want some
        test_split_mode="none",
    )
    engine = Engine(default_root_dir=out / "run", accelerator="cpu", devices=1, logger=False)
    engine.fit(model=model, datamodule=data)
    engine.export(
        model=model,
        export_type=ExportType.OPENVINO,
        export_root=out,
        input_size=(side_px, side_px),
    )


if __name__ == "__main__":
    main()
