"""SimSiam as `lightly` has it, with the same network: one round an input line, images/s an output
line. A program of its own, because lightly lives in a folder of its own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader


def main(
    images: str, arch: str, size_px: int, batch_images: int, workers: int, epochs: int
) -> None:
    """Their transform, heads and loss; their tutorial's optimiser."""
    from lightly.data import LightlyDataset
    from lightly.transforms.simsiam_transform import SimSiamTransform

    transform = SimSiamTransform(input_size=size_px)
    loader = DataLoader(
        LightlyDataset(input_dir=images, transform=transform),
        batch_size=batch_images,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = _model(arch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06, momentum=0.9, weight_decay=5e-4)
    for line in sys.stdin:
        if line.strip() != "round":
            break
        print(json.dumps(_epochs(model, optimizer, loader, epochs)), flush=True)


def _model(arch: str) -> nn.Module:
    import timm
    from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

    backbone = timm.create_model(arch, num_classes=0)
    width: Any = backbone.num_features
    heads = (SimSiamProjectionHead(width, 2048, 2048), SimSiamPredictionHead(2048, 512, 2048))
    return nn.ModuleList([backbone, *heads])


def _epochs(
    model: Any, optimizer: torch.optim.Optimizer, loader: DataLoader[Any], epochs: int
) -> list[float]:
    from lightly.loss import NegativeCosineSimilarity

    criterion = NegativeCosineSimilarity()
    backbone, project, predict = model
    speeds = []
    for _ in range(epochs):
        started_s, seen = time.perf_counter(), 0
        for (one, other), *_ in loader:
            first, second = project(backbone(one)), project(backbone(other))
            loss = criterion(predict(first), second.detach()) / 2
            loss = loss + criterion(predict(second), first.detach()) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(one)
        speeds.append(seen / (time.perf_counter() - started_s))
    return speeds


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    sys.path.insert(0, str(Path(told.pop("library")).resolve()))
    main(**told)
