"""The gradients that are written out are autograd's, in torch and in both engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.engines.openvino import shared_core
from lineside_trainer.models.autoencoder import Autoencoder, scale_pixels
from lineside_trainer.models.autoencoder_detector import SCORES, AutoencoderDetector, SealedEncoder
from lineside_trainer.models.elbo import divergences
from lineside_trainer.models.gradcon import FLOOR, SealedDecoder, WeightGradients

Run = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]

BATCHES = (1, 3, 8)
EXAMPLE_BATCH = 7
CASES = [(1, (64, 64)), (3, (24, 40))]
TOLERANCE = 1e-4
"""Relative L2 error of a layer's weight gradient. Measured: 1.2e-6 at most in each runtime."""


class Gradients(nn.Module):
    """Raw pixels to each layer's weight gradient: what the detector multiplies and sums."""

    def __init__(self, net: Autoencoder) -> None:
        super().__init__()
        self.encoder = SealedEncoder(net, with_variance=False)
        self.decoder = SealedDecoder(net.decoder_layers())
        self.gradients = WeightGradients(net.decoder_layers())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        images = scale_pixels(image)
        return tuple(self.gradients(self.decoder(self.encoder(images).mean), images))


def make_net(channels: int, size_hw: tuple[int, int]) -> Autoencoder:
    """With batch norms that have seen something, and mean gradients."""
    torch.manual_seed(channels)
    net = Autoencoder("vae", size_hw=size_hw, channels=channels).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.randint(0, 256, (1, *size_hw, channels), dtype=torch.uint8)
    net.training_gradients.add(by_autograd(net, images)[0])
    return net


def by_autograd(net: Autoencoder, images: Tensor) -> list[list[Tensor]]:
    """Each image alone."""
    weights = [layer.conv.weight for layer in net.decoder_layers()]
    found = []
    for image in images.split(1):
        scaled = scale_pixels(image)
        error = (net.decode(net.encode(scaled).mean) - scaled).square().mean()
        found.append(list(torch.autograd.grad(error, weights)))
    return found


def expected_scores(net: Autoencoder, images: Tensor, gamma: float) -> dict[str, Tensor]:
    """By eq. 2, 3 and 4, as they are printed."""
    scaled = scale_pixels(images)
    latent = net.encode(scaled)
    recon = (net.decode(latent.mean) - scaled).square().mean(dim=(1, 2, 3)).detach()
    means = net.training_gradients.means()
    pairs = [zip(own, means, strict=True) for own in by_autograd(net, images)]
    cosines = [
        torch.stack([torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pair])
        for pair in pairs
    ]
    loss = -torch.stack(cosines).mean(dim=1)
    return {
        "recon": recon,
        "elbo": recon + divergences(latent, "sum").detach() / scaled[0].numel(),
        "gradcon": recon + gamma * loss,
    }


def in_torch(program: torch.export.ExportedProgram) -> Run:
    module = program.module()
    return lambda images: [out.numpy() for out in outputs_of(module(torch.from_numpy(images)))]


def outputs_of(told: dict[str, Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    return list(told.values()) if isinstance(told, dict) else list(told)


def engines(
    net: nn.Module, channels: int, size_hw: tuple[int, int], folder: Path
) -> dict[str, Run]:
    example = torch.zeros((EXAMPLE_BATCH, *size_hw, channels), dtype=torch.uint8)
    shapes = {"image": {0: torch.export.Dim("batch")}}
    program = torch.export.export(net.eval(), (example,), dynamic_shapes=shapes)
    file = str(folder / "model.onnx")
    torch.onnx.export(program, f=file, dynamo=True, input_names=["image"], verbose=False)
    session = onnxruntime.InferenceSession(file)
    compiled = shared_core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "torch": in_torch(program),
        "onnxruntime": lambda images: session.run(None, {"image": images}),
        "openvino": lambda images: [value.copy() for value in compiled(images).values()],
    }


@pytest.mark.parametrize(("channels", "size_hw"), CASES)
def test_every_layers_gradient_is_autograds(
    channels: int, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    net = make_net(channels, size_hw)
    runs = engines(Gradients(net), channels, size_hw, tmp_path)
    for batch in BATCHES:
        images = torch.randint(0, 256, (batch, *size_hw, channels), dtype=torch.uint8)
        wanted = by_autograd(net, images)
        for name, run in runs.items():
            told = run(images.numpy())
            assert len(told) == len(wanted[0])
            for index, image_gradients in enumerate(wanted):
                for layer, gradient in enumerate(image_gradients):
                    ours = torch.from_numpy(told[layer][index]).reshape(gradient.shape)
                    error = (ours - gradient).norm() / gradient.norm().clamp(min=FLOOR)
                    assert float(error) < TOLERANCE, (name, batch, index, layer)


@pytest.mark.parametrize("score", SCORES)
def test_the_exported_score_is_that_of_the_equations(score: str, tmp_path: Path) -> None:
    gamma = 0.2  # so that the gradients weigh as much as the error
    net = make_net(3, (24, 40))
    detector = AutoencoderDetector(net, score=score, gamma=gamma, reduction="sum")
    runs = engines(detector, 3, (24, 40), tmp_path)
    for batch in BATCHES:
        images = torch.randint(0, 256, (batch, 24, 40, 3), dtype=torch.uint8)
        wanted = expected_scores(net, images, gamma)[score].numpy()
        for name, run in runs.items():
            told, spread = run(images.numpy())
            assert spread.shape == (batch, 24, 40)
            # Measured: 8e-6 at most, of "gradcon", where a difference of two like numbers remains.
            assert np.abs(told / wanted - 1.0).max() < 1e-4, (name, batch)
