"""Each family of networks on the whole road: trained for a moment, int8 for both engines, and a
station that tells a broker what it sees.

Swin and VGG are too large to be trained here, so timm's own classes are registered under a new name
with few channels: the same layers, windows that are shifted, the same pooling to 7x7.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mosquitto_broker import Mosquitto
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer
from timm.models.vgg import VGG

from lineside.bundle import write_key_pair
from lineside_export.cli import export
from lineside_trainer.cli.train import train

SIDE_PX = 32
LIMIT = 0.12  # between a small disc's share of the picture and a large one's
IMAGES = 96
COMMAND = [sys.executable, "-c", "from lineside.cli.main import main; main()"]
default_cfgs = generate_default_cfgs(
    {
        "tiny_swin": {"input_size": (3, SIDE_PX, SIDE_PX), "fixed_input_size": True},
        "tiny_vgg": {"input_size": (3, SIDE_PX, SIDE_PX)},
    }
)


@register_model
def tiny_swin(pretrained: bool = False, **settings: Any) -> SwinTransformer:
    """Two stages; 8x8 and 4x4 places in windows of 4, the first of them shifted."""
    sizes: dict[str, Any] = {"patch_size": 4, "window_size": 4, "embed_dim": 32, "depths": (2, 2)}
    sizes["num_heads"] = (2, 4)
    return build_model_with_cfg(SwinTransformer, "tiny_swin", pretrained, **sizes, **settings)


@register_model
def tiny_vgg(pretrained: bool = False, **settings: Any) -> VGG:
    """As many halvings as VGG-11, and its pooling up to 7x7 before the dense layers."""
    widths = [16, "M", 16, "M", 32, "M", 32, "M", 512, "M"]
    settings |= {"cfg": widths, "mlp_ratio": 1 / 128}
    return build_model_with_cfg(VGG, "tiny_vgg", pretrained, **settings)


def succeed(command: Any, *arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs, small or large by turns; `share` says how much of the picture they cover."""
    folder = tmp_path_factory.mktemp("discs") / "discs"
    folder.mkdir()
    random, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE_PX, :SIDE_PX]
    rows = ["file,share,part"]
    for number in range(IMAGES):
        radius = random.uniform(8, 11) if number % 2 else random.uniform(2, 4)
        cy, cx = random.uniform(11, SIDE_PX - 11, 2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        image = 60 + 6 * random.standard_normal(disc.shape) + 120 * disc
        name = f"{number:03d}.png"
        assert cv2.imwrite(str(folder / name), image.clip(0, 255).astype(np.uint8))
        rows.append(f"{name},{disc.mean():.5f},p{number // 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_key_pair(tmp_path_factory.mktemp("keys"), "factory")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path)
    made.start()
    yield made
    made.kill()


SETTINGS = """
[train]
head_width = 0
[train.fit]
batch_size = 12
layer_decay = 1.0
ema = 0.0
[train.augment]
crop = "none"
"""


def station(folder: Path, bundle: Path, trust: Path, frames: Path, engine: str, url: str) -> Path:
    file = folder / "station.toml"
    file.write_text(
        f"""
[station]
site = "plant1"
line = "line1"
name = "aoi1"
[bundle]
path = "{bundle}"
trust = ["{trust}"]
engine = "{engine}"
threads = 1
[source]
kind = "folder"
path = "{frames}"
settle_ms = 0
[mqtt]
url = "{url}"
""",
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize(
    ("arch", "side_px", "lr", "epochs", "engine"),
    [
        ("sam_cnn", 16, 1e-3, 9, "onnxruntime"),
        ("xray_cnn", 16, 1e-3, 9, "openvino"),
        ("test_resnet", 32, 3e-3, 10, "onnxruntime"),
        ("test_efficientnet", 32, 1e-2, 16, "openvino"),
        ("tiny_vgg", 32, 1e-3, 10, "onnxruntime"),
        ("tiny_swin", 32, 3e-3, 10, "openvino"),
    ],
)
def test_a_family_is_trained_quantised_and_inspects(
    arch: str,
    side_px: int,
    lr: float,
    epochs: int,
    engine: str,
    discs: Path,
    keys: tuple[Path, Path],
    broker: Mosquitto,
    tmp_path: Path,
) -> None:
    settings, bundle = tmp_path / "settings.toml", tmp_path / "disc.lsb"
    settings.write_text(SETTINGS, encoding="utf-8")
    learnt = succeed(
        *(train, "--data", discs, "--target", "share", "--group", "part", "--limit", LIMIT),
        *("--arch", arch, "--image-size", side_px, "--lr", lr, "--epochs", epochs),
        *("--config", settings, "--out", tmp_path / "run", "--device", "cpu", "--json"),
    )
    assert learnt["test"]["mse"]["value"] < learnt["baseline"]["mse"]["value"]
    sealed = succeed(
        *(export, tmp_path / "run" / "candidate", "--out", bundle, "--key", keys[0], "--json"),
        *("--precision", "int8", "--max-drop", "0.05"),
    )
    quantised = {(a["engine"], a["precision"]) for a in sealed["agreements"]}
    assert {("onnxruntime", "int8"), ("openvino", "int8")} <= quantised
    file = station(tmp_path, bundle, keys[1], discs, engine, broker.url)
    done = subprocess.run(
        [*COMMAND, "run", str(file), "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == report["acknowledged"] == IMAGES
    # Half of the discs are large. So short a training may err, a broken graph would say one thing.
    found = report["evaluations"]
    assert found["OK"] + found["NOT_OK"] == IMAGES
    assert abs(found["OK"] - IMAGES // 2) <= IMAGES // 8
