"""Candidates without the trainer: a small ViT and a small CNN, and joints drawn by discs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from lineside.bundle import write_key_pair
from lineside.candidate import CONTRACT, PROGRAM, PROVENANCE, SAMPLES, SampleSet, write_samples
from lineside.contract import (
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
    encode_contract,
)
from lineside_export.cli import export

SIDE_PX = 64
LIMIT = 0.06
COUNTS = {"quantisation": 40, "validation": 80, "golden": 40}


class SmallVit(nn.Module):
    """Two blocks of ViT-Ti's width, so that weights outweigh everything else in the files.

    Random features with a fitted last layer: a real regression without minutes of training.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = VisionTransformer(
            img_size=SIDE_PX, patch_size=8, in_chans=1, embed_dim=192, depth=2, num_heads=3,
            num_classes=0,
        )  # fmt: skip
        self.hidden = nn.Sequential(nn.Linear(192, 256), nn.GELU())
        self.last = nn.Linear(256, 1)
        images = draw_joints(160, seed=1)
        self.eval()
        fit_last(self.last, self.features(torch.from_numpy(images)), bright_share(images))

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 1) uint8 → (N, 256) float32."""
        pixels_nchw = (image.permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25
        tokens = self.body.forward_features(pixels_nchw)[:, 1:]
        return self.hidden(tokens.mean(dim=1))  # type: ignore[no-any-return]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 1) uint8 → (N,) float32."""
        return self.last(self.features(image))[:, 0]  # type: ignore[no-any-return]


class SmallCnn(nn.Module):
    """Two convolutions, for tests that need a candidate and not a transformer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=4), nn.ReLU(), nn.Conv2d(16, 64, 3), nn.ReLU()
        )
        self.last = nn.Linear(64, 1)
        images = draw_joints(160, seed=1)
        fit_last(self.last, self.features(torch.from_numpy(images)), bright_share(images))

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 1) uint8 → (N, 64) float32."""
        pixels_nchw = (image.permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25
        return self.body(pixels_nchw).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 1) uint8 → (N,) float32."""
        return self.last(self.features(image))[:, 0]  # type: ignore[no-any-return]


def bright_share(images_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N,) the share of pixels above 150: what the models learn to tell."""
    return (images_nhwc > 150).mean(axis=(1, 2, 3)).astype(np.float32)


@torch.no_grad()
def fit_last(last: nn.Linear, features: torch.Tensor, target: NDArray[np.float32]) -> None:
    """Ridge regression in closed form; the penalty keeps the weights, and int8's noise, small."""
    wanted, mean = torch.from_numpy(target), features.mean(dim=0)
    centred = features - mean
    penalty = 0.1 * len(target) * centred.var(dim=0).mean()
    gram = centred.T @ centred + penalty * torch.eye(centred.shape[1])
    last.weight[0] = torch.linalg.solve(gram, centred.T @ (wanted - wanted.mean()))
    last.bias[0] = wanted.mean() - mean @ last.weight[0]


def save_program(file: Path, module: nn.Module, example: torch.Tensor) -> None:
    """Export with a dynamic batch and save."""
    dynamic = {"image": {0: torch.export.Dim("batch", min=1, max=4096)}}
    exported = torch.export.export(module.eval(), (example,), dynamic_shapes=dynamic)
    torch.export.save(exported, file)


def draw_joints(count: int, seed: int) -> NDArray[np.uint8]:
    """(N, 64, 64, 1) uint8: gray ground, noise, one to seven discs."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    images = 120.0 + 8.0 * random.standard_normal((count, SIDE_PX, SIDE_PX))
    for image in images:
        for _ in range(random.integers(1, 8)):
            cy, cx, radius = random.uniform(8, 56), random.uniform(8, 56), random.uniform(2, 10)
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] += random.uniform(-80, 110)
    return np.clip(images, 0, 255).astype(np.uint8)[..., np.newaxis]


def make_contract() -> Contract:
    """What both models promise."""
    rule = LimitRule(ok_limit=LIMIT, not_ok_limit=LIMIT)
    return Contract(
        product="led-joint",
        frame=FrameSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        input=InputSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        outputs=(OutputSpec(name="value"),),
        head=RegressionHead(target="delta_b_max"),
        proposed_rule=rule,
    )


def write_candidate(
    folder: Path, *, module: nn.Module | None = None, seed: int = 3, noise: float = 0.03
) -> Path:
    """A whole candidate folder; targets are the module's own values with noise."""
    folder.mkdir(parents=True)
    module = module or SmallVit(seed)
    save_program(folder / PROGRAM, module, torch.zeros(5, SIDE_PX, SIDE_PX, 1, dtype=torch.uint8))
    (folder / CONTRACT).write_bytes(encode_contract(make_contract()))
    (folder / PROVENANCE).write_text(json.dumps({"data": "discs", "seed": str(seed)}))
    random, sets = np.random.default_rng(seed), {}
    for offset, (name, count) in enumerate(COUNTS.items()):
        images = draw_joints(count, seed=100 + offset)
        with torch.inference_mode():
            values = module(torch.from_numpy(images)).double().numpy()
        sets[name] = SampleSet(
            frames_hwc=list(images),
            targets=values + noise * random.standard_normal(count),
            parts=[f"{name}-{index // 5}" for index in range(count)],
        )
    write_samples(folder / SAMPLES, sets)
    return folder


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A candidate and what the verb made of it.

    Attributes:
        candidate: its folder.
        key, trust: the pair that sealed it.
        bundle: the sealed file.
        document: what `--json` printed.
        words: what the verb said to people meanwhile.
    """

    candidate: Path
    key: Path
    trust: Path
    bundle: Path
    document: dict[str, object]
    words: str


@pytest.fixture(scope="session")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good candidate; leave its files as they are."""
    return write_candidate(tmp_path_factory.mktemp("candidate") / "candidate")


@pytest.fixture(scope="session")
def small_candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good candidate with a CNN, exported in a blink; leave its files as they are."""
    return write_candidate(tmp_path_factory.mktemp("small") / "candidate", module=SmallCnn())


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The factory's private and public key."""
    return write_key_pair(tmp_path_factory.mktemp("keys"), "factory")


@pytest.fixture(scope="session")
def exported(
    candidate: Path, key_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """The good candidate exported to int8 for both engines; leave its files as they are."""
    out = tmp_path_factory.mktemp("bundle") / "joint.lsb"
    key, trust = key_pair
    arguments = [str(candidate), "--out", str(out), "--key", str(key), "--json"]
    arguments += ["--precision", "int8", "--max-flips", "4", "--max-drop", "0.05"]
    result = CliRunner().invoke(export, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return Exported(
        candidate=candidate,
        key=key,
        trust=trust,
        bundle=out,
        document=json.loads(result.stdout),
        words=result.stderr,
    )


@pytest.fixture(scope="session")
def new_candidate() -> Callable[..., Path]:
    """`write_candidate`, for tests that want one of their own."""
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    return write_candidate


@pytest.fixture(scope="session")
def joints() -> Callable[[int, int], NDArray[np.uint8]]:
    """`draw_joints`."""
    return draw_joints


@pytest.fixture(scope="session")
def new_program() -> Callable[[Path, nn.Module, torch.Tensor], None]:
    """`save_program`."""
    return save_program
