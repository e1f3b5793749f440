"""Fig. 3 of Ulger et al. as a network, and the terms of its loss."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence

from lineside_trainer.data.draws import SharedGenerator, normal
from lineside_trainer.errors import ExperimentError
from lineside_trainer.models.autoencoder import (
    Autoencoder,
    BicubicDoubling,
    Latent,
    TransposedConv,
    draw_codes,
    scale_pixels,
)
from lineside_trainer.models.elbo import divergences, reconstruction_errors

# Written down by hand from fig. 3: 3x3 kernels between C, 16, 32, 64, 128, 256 and 10 channels, two
# figures of batch norm a channel, a bias where no batch norm follows.
HIDDEN = 9 * (16 * 32 + 32 * 64 + 64 * 128 + 128 * 256)
NORMS = 2 * (16 + 32 + 64 + 128 + 256)
BOTTLENECK = 9 * 256 * 10 + 10
PARAMETERS = {("cae", 1): 831_723, ("cae", 3): 832_301, ("vae", 1): 854_773, ("vae", 3): 855_351}


@pytest.mark.parametrize(("arch", "channels"), [*PARAMETERS, ("beta_vae", 3)])
def test_it_has_the_parameters_of_figure_3(arch: str, channels: int) -> None:
    net = Autoencoder(arch, size_hw=(64, 64), channels=channels)
    counted = sum(parameter.numel() for parameter in net.parameters())
    encoder = 9 * channels * 16 + HIDDEN + NORMS
    decoder = 9 * 10 * 256 + HIDDEN + NORMS + 9 * 16 * channels + channels
    assert counted == encoder + decoder + BOTTLENECK * (1 if arch == "cae" else 2)
    assert counted == PARAMETERS["cae" if arch == "cae" else "vae", channels]
    layered = [parameter for layer in net.layers() for parameter in layer]
    assert sorted(map(id, layered)) == sorted(map(id, net.parameters()))


@pytest.mark.parametrize("size_hw", [(64, 64), (8, 8), (24, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_latents_have_ten_channels_at_an_eighth_of_the_size(
    size_hw: tuple[int, int], channels: int
) -> None:
    net = Autoencoder("vae", size_hw=size_hw, channels=channels).eval()
    images = scale_pixels(torch.randint(0, 256, (2, *size_hw, channels), dtype=torch.uint8))
    latent = net.encode(images)
    assert latent.log_variance is not None
    assert latent.mean.shape == (2, 10, size_hw[0] // 8, size_hw[1] // 8)
    assert latent.log_variance.shape == latent.mean.shape
    decoded = net.decode(latent.mean)
    assert decoded.shape == images.shape
    assert float(decoded.detach().abs().max()) <= 1.0


def test_it_computes_what_the_plain_modules_do() -> None:
    torch.manual_seed(0)
    net = Autoencoder("cae", size_hw=(24, 16), channels=3)
    plain = plain_twin(net)
    images = torch.rand(4, 3, 24, 16) * 2 - 1
    ours, theirs = net.decode(net.encode(images).mean), plain(images)
    # Measured: 4e-7. The order of sums differs.
    assert float((ours - theirs).detach().abs().max()) < 1e-5
    assert [float(net.encoder[0].norm.running_mean[0])] == [float(plain[1].running_mean[0])]


def plain_twin(net: Autoencoder) -> nn.Sequential:
    """Fig. 3 written down with torch's own modules, with the weights of `net`."""
    layers: list[nn.Module] = []
    widths = [16, 32, 64, 128, 256]
    for depth, (inputs, outputs) in enumerate(itertools.pairwise([3, *widths])):
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.LeakyReLU(), *([nn.MaxPool2d(2, 2)] if depth < 3 else [])]
    layers += [nn.Conv2d(256, 10, 3, 1, 1)]
    for depth, (inputs, outputs) in enumerate(
        [(10, 256), (256, 128), (128, 64), (64, 32), (32, 16)]
    ):
        layers += [nn.ConvTranspose2d(inputs, outputs, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU()]
        layers += [nn.Upsample(scale_factor=2, mode="bicubic")] if depth < 3 else []
    layers += [nn.ConvTranspose2d(16, 3, 3, 1, 1), nn.Tanh()]
    twin = nn.Sequential(*layers)
    state = net.state_dict()
    # What is gathered of the gradients is no weight, and registered after all of them.
    values: Any = [state[name] for name in state if not name.startswith("training_gradients")]
    twin.load_state_dict(dict(zip(twin.state_dict(), values, strict=True)))
    return twin


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_doubling_is_torchs_bicubic(height: int, width: int) -> None:
    maps = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    theirs = F.interpolate(maps, scale_factor=2, mode="bicubic", align_corners=False)
    ours = BicubicDoubling((height, width))(maps)
    # fp32 sums of 16 products in another order; measured 5e-7.
    assert float((ours - theirs).abs().max()) < 5e-6


def test_a_transposed_convolution_is_torchs_in_value_and_gradient() -> None:
    torch.manual_seed(1)
    ours = TransposedConv(5, 7, bias=True)
    theirs = nn.ConvTranspose2d(5, 7, 3, 1, 1)
    theirs.load_state_dict(ours.state_dict())
    maps = torch.randn(2, 5, 6, 4)
    pulled = torch.randn(2, 7, 6, 4)
    assert torch.allclose(ours(maps), theirs(maps), atol=1e-5)
    for net in (ours, theirs):
        (net(maps) * pulled).sum().backward()
    assert torch.allclose(ours.weight.grad, theirs.weight.grad, atol=1e-4)


def test_sides_that_cannot_be_halved_three_times_and_other_networks_are_refused() -> None:
    with pytest.raises(ExperimentError, match="multiples of 8"):
        Autoencoder("vae", size_hw=(64, 60), channels=3)
    with pytest.raises(ExperimentError, match="there are cae, vae, beta_vae"):
        Autoencoder("gan", size_hw=(64, 64), channels=3)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    torch.manual_seed(2)
    latent = Latent(torch.randn(3, 10, 2, 2), torch.randn(3, 10, 2, 2))
    assert latent.log_variance is not None
    own = Normal(latent.mean, torch.exp(0.5 * latent.log_variance))
    wanted = kl_divergence(own, Normal(0.0, 1.0)).flatten(1)
    assert torch.allclose(divergences(latent, "sum"), wanted.sum(1), rtol=1e-5)
    assert torch.allclose(divergences(latent, "mean"), wanted.mean(1), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_beta_3_of_means_is_beta_6_4_a_channel_times_3_of_sums(channels: int) -> None:
    torch.manual_seed(3)
    images = torch.rand(2, channels, 16, 24)
    latent = Latent(torch.randn(2, 10, 2, 3), torch.randn(2, 10, 2, 3))
    wrong = torch.zeros_like(images)
    by_sum = reconstruction_errors(wrong, images, "sum") + 19.2 * channels * divergences(
        latent, "sum"
    )
    by_mean = reconstruction_errors(wrong, images, "mean") + 3 * divergences(latent, "mean")
    assert torch.allclose(by_sum, by_mean * images[0].numel(), rtol=1e-4)


def test_codes_are_drawn_from_the_latents_distribution_and_a_caes_are_not() -> None:
    mean, log_variance = (
        torch.full((4000, 10, 1, 1), 3.0),
        torch.full((4000, 10, 1, 1), math.log(4.0)),
    )
    generator = torch.Generator().manual_seed(0)
    drawn = draw_codes(Latent(mean, log_variance), generator)
    assert abs(float(drawn.mean()) - 3.0) < 0.05  # 5 standard errors of 40,000 draws
    assert abs(float(drawn.std()) - 2.0) < 0.04
    assert torch.equal(draw_codes(Latent(mean, None), generator), mean)


def test_several_processes_draw_what_one_would() -> None:
    whole = normal((8, 3), SharedGenerator.seeded(5))
    shares = [
        normal((4, 3), SharedGenerator.seeded(5, rank=rank, world_size=2)) for rank in range(2)
    ]
    assert torch.equal(torch.cat(shares), whole)
    alone = normal((8, 3), torch.Generator().manual_seed(5))
    assert torch.equal(alone, whole)
