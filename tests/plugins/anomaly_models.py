"""Two anomaly models without the trainer: nearest patches of a ViT, and an autoencoder that judges
by its own gradients. Small, and built of what the large ones are built of.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from lineside.candidate import (
    CONTRACT,
    MEMORY,
    PROGRAM,
    PROVENANCE,
    SAMPLES,
    SampleSet,
    write_samples,
)
from lineside.contract import (
    AnomalyHead,
    Contract,
    FrameSpec,
    InputSpec,
    LimitRule,
    MemorySpec,
    OutputSpec,
    encode_contract,
)
from lineside.memory import write_memory

SIDE_PX: Final = 64
PATCH_PX: Final = 8
GRID: Final = SIDE_PX // PATCH_PX
COUNTS: Final = {"quantisation": 30, "validation": 60, "golden": 30}


def draw_plates(count: int, seed: int, *, bad: bool = False) -> NDArray[np.uint8]:
    """(N, 64, 64, 1) uint8: a bright ring and a bar, light and place varying; bad: with a stain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    images = np.empty((count, SIDE_PX, SIDE_PX))
    for image in images:
        shift, light = random.uniform(-1.5, 1.5, 2), random.uniform(0.9, 1.1)
        radius = np.hypot(y - 30 - shift[0], x - 30 - shift[1])
        image[...] = 90.0 + 20.0 * np.sin(x / 9.0)
        image[(radius > 14) & (radius < 20)] = 190.0
        image[50 : 56 + int(shift[0]), 8:56] = 150.0
        if bad:
            cy, cx = random.uniform(10, 54, 2)
            size = random.uniform(3.0, 6.0)
            image[(y - cy) ** 2 + (x - cx) ** 2 < size**2] = random.choice([20.0, 250.0])
        image *= light
    images += 5.0 * random.standard_normal(images.shape)
    return np.clip(images, 0, 255).astype(np.uint8)[..., np.newaxis]


class NearestPatches(nn.Module):
    """Patches of a ViT of two blocks, 1 - the largest cosine with a memory of good ones."""

    width: Final = 128

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = VisionTransformer(
            img_size=SIDE_PX, patch_size=PATCH_PX, in_chans=1, embed_dim=self.width, depth=2,
            num_heads=4, num_classes=0,
        )  # fmt: skip
        self.eval()

    def patches(self, image: Tensor) -> Tensor:
        """(N, 64, 64, 1) uint8 → (N, 64, width) float32 of length 1."""
        pixels_nchw = (image.permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25
        return functional.normalize(self.body.forward_features(pixels_nchw)[:, 1:], dim=-1)

    def forward(self, image: Tensor, memory: Tensor) -> dict[str, Tensor]:
        """Score (N,) and map (N, 8, 8) float32; the memory is (M, width) float32."""
        known = functional.normalize(memory, dim=-1)
        distance = 1.0 - (self.patches(image) @ known.T).amax(dim=-1)
        return {"score": distance.amax(dim=1), "map": distance.reshape(-1, GRID, GRID)}

    @torch.no_grad()
    def remember(self, count: int = 400, seed: int = 9) -> NDArray[np.float32]:
        """(count, width) float32 patches of good plates."""
        rows = self.patches(torch.from_numpy(draw_plates(60, seed))).flatten(0, 1)
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
        return rows[chosen].numpy()


def _bicubic(size: int) -> Tensor:
    """(2 size, size): twice as large, as a matrix."""
    eye = torch.eye(size).view(size, 1, size, 1)
    up = functional.interpolate(eye, size=(2 * size, 1), mode="bicubic", align_corners=False)
    return up.view(size, 2 * size).T.contiguous()


def _weight_gradient(gradient: Tensor, given: Tensor) -> Tensor:
    """Of a 3x3 convolution's weights, each sample its own: (N, O, C * 9)."""
    count, channels, height, width = given.shape
    padded = functional.pad(given, (1, 1, 1, 1))
    shifted = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    patches = torch.stack(shifted, dim=2).reshape(count, channels * 9, height * width)
    return gradient.flatten(2) @ patches.transpose(1, 2)


class GradientScore(nn.Module):
    """Error of reconstruction less how well the decoder's gradients point where training's did.

    The backward pass is written out by hand: every convolution's gradient goes back through a
    convolution with its flipped weights, a constant of its own.
    """

    slope: Final = 0.01
    share: Final = 0.03

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        act = nn.LeakyReLU(self.slope)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1), act, nn.AvgPool2d(2), nn.Conv2d(16, 32, 3, 1, 1), act,
            nn.AvgPool2d(2), nn.Conv2d(32, 8, 3, 1, 1),
        )  # fmt: skip
        channels = (8, 32, 16, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, 1, 1) for a, b in itertools.pairwise(channels)
        )
        for size in (SIDE_PX // 4, SIDE_PX // 2):
            self.register_buffer(f"up{size}", _bicubic(size))
        for place, layer in enumerate(self.layers):
            self.register_buffer(f"back{place}", torch.zeros(layer.weight.transpose(0, 1).shape))
            self.register_buffer(
                f"ref{place}", torch.zeros(layer.weight[0].numel() * layer.out_channels)
            )

    def _up(self, values: Tensor) -> Tensor:
        up = getattr(self, f"up{values.shape[-1]}")
        return up @ values @ up.T

    def decode(self, code: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The reconstruction, what each layer read, and what it gave."""
        value, reads, gives = code, [], []
        for place, layer in enumerate(self.layers):
            reads.append(value)
            gives.append(layer(value))
            value = functional.leaky_relu(gives[-1], self.slope)
            if place < 2:
                value = self._up(value)
        return torch.tanh(gives[-1]), reads, gives

    def gradients(
        self, target: Tensor, made: Tensor, reads: list[Tensor], gives: list[Tensor]
    ) -> list[Tensor]:
        """Of each layer's weights, flat, first layer first."""
        gradient = 2.0 * (made - target) / target[0].numel() * (1.0 - made * made)
        found = []
        for place in (2, 1, 0):
            found.append(_weight_gradient(gradient, reads[place]).flatten(1))
            if place == 0:
                break
            gradient = functional.conv2d(gradient, getattr(self, f"back{place}"), None, 1, 1)
            up = getattr(self, f"up{gradient.shape[-1] // 2}")
            gradient = up.T @ gradient @ up
            gradient = gradient * torch.where(gives[place - 1] > 0.0, 1.0, self.slope)
        return found[::-1]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(N, 64, 64, 1) uint8 → score (N,), map (N, 64, 64) float32."""
        target = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        made, reads, gives = self.decode(self.encoder(target))
        errors = (made - target) ** 2
        cosines = [
            functional.cosine_similarity(gradient, getattr(self, f"ref{place}")[None], dim=1)
            for place, gradient in enumerate(self.gradients(target, made, reads, gives))
        ]
        score = errors.mean(dim=(1, 2, 3)) - self.share * torch.stack(cosines, dim=1).mean(dim=1)
        return {"score": score, "map": functional.avg_pool2d(errors, 5, 1, 2)[:, 0]}

    def learn(self, steps: int = 150) -> GradientScore:
        """On good plates alone; then the mean gradients, and the weights to go back through."""
        plates = torch.from_numpy(draw_plates(120, seed=5)).permute(0, 3, 1, 2).float() / 127.5 - 1
        optimiser = torch.optim.Adam(self.parameters(), lr=3e-3)
        for step in range(steps):
            batch = plates[(torch.arange(12) + 12 * step) % len(plates)]
            loss = functional.mse_loss(self.decode(self.encoder(batch))[0], batch)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        with torch.no_grad():
            for place, layer in enumerate(self.layers):
                flipped = layer.weight.flip(2, 3).transpose(0, 1)
                getattr(self, f"back{place}").copy_(flipped)
            means = self.gradients(plates, *self.decode(self.encoder(plates)))
            for place, gradient in enumerate(means):
                getattr(self, f"ref{place}").copy_(gradient.mean(dim=0))
        return self.eval().requires_grad_(False)


def anomaly_contract(map_hw: tuple[int, int], *, width: int = 0) -> Contract:
    """A score and a map; a memory where a width is given."""
    return Contract(
        product="plate",
        frame=FrameSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        input=InputSpec(size_hw=(SIDE_PX, SIDE_PX), channels=1),
        outputs=(OutputSpec(name="score"), OutputSpec(name="map", shape=map_hw)),
        memory=MemorySpec(width=width) if width else None,
        head=AnomalyHead(map="map", target="class", region_limit=1.0),
    )


def write_anomaly_candidate(
    folder: Path,
    module: nn.Module,
    *,
    bad_share: float = 0.3,
    memory: NDArray[np.float32] | None = None,
    map_hw: tuple[int, int] = (SIDE_PX, SIDE_PX),
    rule: LimitRule | None = None,
) -> Path:
    """A whole candidate folder; of normal-only ones `bad_share` is 0."""
    folder.mkdir(parents=True)
    examples = [torch.zeros(5, SIDE_PX, SIDE_PX, 1, dtype=torch.uint8)]
    dynamic = {"image": {0: torch.export.Dim("batch", min=1, max=4096)}}
    width = 0
    if memory is not None:
        map_hw, width = (GRID, GRID), memory.shape[1]
        examples.append(torch.zeros(11, width))
        dynamic["memory"] = {0: torch.export.Dim("patches", min=1, max=1_000_000)}
        write_memory(folder / MEMORY, memory, MemorySpec(width=width))
    exported = torch.export.export(module.eval(), tuple(examples), dynamic_shapes=dynamic)
    torch.export.save(exported, folder / PROGRAM)
    contract = anomaly_contract(map_hw, width=width)
    if rule is not None:
        contract = Contract(
            **{k: getattr(contract, k) for k in contract.__struct_fields__}
            | {"proposed_rule": rule}
        )
    (folder / CONTRACT).write_bytes(encode_contract(contract))
    (folder / PROVENANCE).write_text(json.dumps({"data": "plates"}))
    sets = {}
    for offset, (name, count) in enumerate(COUNTS.items()):
        # Ranges come from what training knows: good parts.
        bad = 0 if name == "quantisation" else round(bad_share * count)
        images = [draw_plates(count - bad, seed=100 + offset)]
        if bad:
            images.append(draw_plates(bad, seed=200 + offset, bad=True))
        sets[name] = SampleSet(
            frames_hwc=list(np.concatenate(images)),
            targets=np.repeat([0.0, 1.0], [count - bad, bad]),
            parts=[f"{name}-{index // 2}" for index in range(count)],
        )
    write_samples(folder / SAMPLES, sets)
    return folder
