"""Convolutional autoencoders of Ulger et al., fig. 3 and sec. IV-B: CAE, VAE and beta-VAE.

What the figure leaves open is our choice: convolutions before a batch norm have no bias (its mean
would take it away again), and leaky ReLU has torch's slope, 0.01.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lineside_trainer.data.draws import normal
from lineside_trainer.errors import ExperimentError

AUTOENCODERS: Final = ("cae", "vae", "beta_vae")
"""A VAE and a beta-VAE are one network; only the weight of the KL divergence differs."""

SLOPE: Final = 0.01
"""Of leaky ReLU below zero."""

_WIDTHS: Final = (16, 32, 64, 128, 256)
_HALVINGS: Final = 3
_LATENT_CHANNELS: Final = 10
_SIDE_PX: Final = 2**_HALVINGS


class Latent(NamedTuple):
    """What an image is encoded as: q(z|X), or z itself.

    Attributes:
        mean: (N, 10, H/8, W/8) float; of a CAE the code.
        log_variance: likewise; None of a CAE.
    """

    mean: Tensor
    log_variance: Tensor | None


def check_autoencoder(arch: str, size_hw: tuple[int, int]) -> None:
    """Refuse what cannot be built, before any image is read.

    Raises:
        ExperimentError: another network, or sides that three halvings do not divide.
    """
    if arch not in AUTOENCODERS:
        raise ExperimentError(
            f"model.arch: {arch!r} is no autoencoder; there are {', '.join(AUTOENCODERS)}"
        )
    height, width = size_hw
    if height % _SIDE_PX or width % _SIDE_PX:
        raise ExperimentError(
            f"data.image_size_hw: {height}x{width} px (height x width); {arch} halves both sides "
            f"{_HALVINGS} times: give multiples of {_SIDE_PX}"
        )


def scale_pixels(images_nhwc: Tensor) -> Tensor:
    """(N, H, W, C) uint8 to (N, C, H, W) float32 in -1..1, the range of tanh (sec. IV-A)."""
    return images_nhwc.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def unscale_pixels(images_nchw: Tensor) -> Tensor:
    """Back to what is looked at: (N, C, H, W) in -1..1 to (N, H, W, C) float32 in 0..255."""
    return ((images_nchw.permute(0, 2, 3, 1) + 1.0) * 127.5).clamp(0.0, 255.0)


def bicubic_doubling(extent: int) -> Tensor:
    """(2 * extent, extent) float32: torch's bicubic of factor 2 along one axis, as a matrix.

    As matrix products it is 7 times faster than ONNX Runtime's Resize, and has a plain transpose
    for the way back.
    """
    lines = torch.eye(extent).reshape(extent, 1, extent, 1)
    doubled = F.interpolate(lines, size=(2 * extent, 1), mode="bicubic", align_corners=False)
    return doubled.reshape(extent, 2 * extent).T.contiguous()


class BicubicDoubling(nn.Module):
    """(N, C, h, w) to (N, C, 2h, 2w), exactly as torch's bicubic with `align_corners=False`.

    Args:
        size_hw: h and w.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size_hw: tuple[int, int]) -> None:
        super().__init__()
        # Made here and not when it is traced: they are constants of the graph.
        self.register_buffer("rows", bicubic_doubling(size_hw[0]), persistent=False)
        columns = bicubic_doubling(size_hw[1]).T.contiguous()
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        return self.rows @ maps @ self.columns


class TransposedConv(nn.ConvTranspose2d):
    """3x3, stride 1: a convolution with the flipped weight, and computed as one.

    torch's own backward of a transposed convolution is slower on CPUs in fp32 and bf16.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=1, padding=1, bias=bias)

    def flipped(self) -> Tensor:
        """(outputs, inputs, 3, 3): the weight of the equal convolution."""
        weight: Tensor = self.weight
        return weight.flip(2, 3).transpose(0, 1)

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert output_size is None, "stride 1 leaves no choice of size"
        return F.conv2d(maps, self.flipped(), self.bias, padding=1)


class EncoderLayer(nn.Module):
    """Convolution, batch norm, leaky ReLU, and a 2x2 maximum in the first three.

    Args:
        inputs: channels.
        outputs: channels.
        halves: whether the maximum is taken.
    """

    def __init__(self, inputs: int, outputs: int, *, halves: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.halves = halves

    def forward(self, maps: Tensor) -> Tensor:
        active = F.leaky_relu(self.norm(self.conv(maps)), SLOPE)
        return F.max_pool2d(active, 2) if self.halves else active


class DecoderLayer(nn.Module):
    """Bicubic doubling in three of them, transposed convolution, then batch norm and leaky ReLU,
    or tanh in the last.

    The figure draws the doubling at the end of a layer; at the beginning of the next it is the same
    network, and a layer is what lies between two activations.

    Args:
        inputs: channels.
        outputs: channels.
        size_hw: of what comes in.
        doubles: whether it is doubled.
        last: tanh instead of batch norm and leaky ReLU.
    """

    def __init__(
        self, inputs: int, outputs: int, size_hw: tuple[int, int], *, doubles: bool, last: bool
    ) -> None:
        super().__init__()
        self.doubling = BicubicDoubling(size_hw) if doubles else None
        self.conv = TransposedConv(inputs, outputs, bias=last)
        self.norm = None if last else nn.BatchNorm2d(outputs)
        self.size_hw = size_hw

    def forward(self, maps: Tensor) -> Tensor:
        convolved = self.conv(maps if self.doubling is None else self.doubling(maps))
        if self.norm is None:
            return torch.tanh(convolved)
        return F.leaky_relu(self.norm(convolved), SLOPE)


class MeanGradients(nn.Module):
    """Running means of the decoder's weight gradients over all steps so far (eq. 4).

    Sums and a count, in the checkpoint like any buffer, so that a resumed run goes on with them and
    the kept epoch keeps those of its own time.

    Args:
        shapes: of the weights, from the latent on.
    """

    count: Tensor

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        for index, shape in enumerate(shapes):
            self.register_buffer(f"sum_{index}", torch.zeros(shape))
        self._sums = len(shapes)

    @property
    def gathered(self) -> bool:
        """There has been a step."""
        return bool(self.count > 0)

    def add(self, gradients: Sequence[Tensor]) -> None:
        """One more step's, each of its weight's shape."""
        for index, gradient in enumerate(gradients):
            self.get_buffer(f"sum_{index}").add_(gradient)
        self.count.add_(1.0)

    def means(self) -> list[Tensor]:
        """float32; zeros where there has been no step."""
        steps = self.count.clamp(min=1.0)
        return [self.get_buffer(f"sum_{index}") / steps for index in range(self._sums)]


class Autoencoder(nn.Module):
    """Images to latents and back.

    Args:
        arch: one of `AUTOENCODERS`.
        size_hw: of the images, pixels; multiples of 8.
        channels: of the images.

    Attributes:
        variational: there is a log-variance beside the mean.
        training_gradients: of the decoder's weights, gathered while it learns.

    Raises:
        ExperimentError: as `check_autoencoder`.
    """

    def __init__(self, arch: str, *, size_hw: tuple[int, int], channels: int) -> None:
        check_autoencoder(arch, size_hw)
        super().__init__()
        self.arch, self.size_hw, self.channels = arch, size_hw, channels
        self.variational = arch != "cae"
        self.encoder = _make_encoder(channels)
        self.mean = nn.Conv2d(_WIDTHS[-1], _LATENT_CHANNELS, kernel_size=3, padding=1)
        self.log_variance = (
            nn.Conv2d(_WIDTHS[-1], _LATENT_CHANNELS, kernel_size=3, padding=1)
            if self.variational
            else None
        )
        self.decoder = _make_decoder(channels, size_hw)
        self.training_gradients = MeanGradients(
            [tuple(layer.conv.weight.shape) for layer in self.decoder_layers()]
        )

    def encode(self, images_nchw: Tensor) -> Latent:
        """(N, C, H, W) float32 in -1..1 to what it is encoded as."""
        maps = self.encoder(images_nchw)
        return Latent(self.mean(maps), self.log_variance(maps) if self.log_variance else None)

    def decode(self, codes: Tensor) -> Tensor:
        """(N, 10, H/8, W/8) to (N, C, H, W) in -1..1."""
        images: Tensor = self.decoder(codes)
        return images

    def encoder_layers(self) -> Sequence[EncoderLayer]:
        """From the image to the bottleneck."""
        return [layer for layer in self.encoder if isinstance(layer, EncoderLayer)]

    def decoder_layers(self) -> Sequence[DecoderLayer]:
        """From the latent to the image."""
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def layers(self) -> list[list[nn.Parameter]]:
        """Every parameter once, from the input to the output."""
        heads = [self.mean] if self.log_variance is None else [self.mean, self.log_variance]
        bottleneck = [parameter for head in heads for parameter in head.parameters()]
        encoder = [list(layer.parameters()) for layer in self.encoder]
        return [*encoder, bottleneck, *(list(layer.parameters()) for layer in self.decoder)]


def draw_codes(latent: Latent, generator: torch.Generator) -> Tensor:
    """z = mean + sigma * epsilon (sec. III-A); a CAE's code as it is.

    Returns:
        (N, 10, H/8, W/8) float32.
    """
    mean = latent.mean.float()
    if latent.log_variance is None:
        return mean
    noise = normal(mean.shape, generator).to(mean.device)
    return mean + torch.exp(0.5 * latent.log_variance.float()) * noise


def kl_divergences(latent: Latent) -> Tensor:
    """KL(q(z|X) || N(0, I)) of each latent unit, eq. 3's first term with its sign turned.

    Returns:
        (N, 10, H/8, W/8) float32, none below 0.
    """
    assert latent.log_variance is not None, "a CAE has no distribution to diverge"
    mean, log_variance = latent.mean.float(), latent.log_variance.float()
    return -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp())


def _make_encoder(channels: int) -> nn.Sequential:
    inputs = (channels, *_WIDTHS[:-1])
    return nn.Sequential(
        *(
            EncoderLayer(before, after, halves=index < _HALVINGS)
            for index, (before, after) in enumerate(zip(inputs, _WIDTHS, strict=True))
        )
    )


def _make_decoder(channels: int, size_hw: tuple[int, int]) -> nn.Sequential:
    widths = (_LATENT_CHANNELS, *reversed(_WIDTHS), channels)
    height, width = size_hw[0] // _SIDE_PX, size_hw[1] // _SIDE_PX
    layers = []
    for index, (before, after) in enumerate(itertools.pairwise(widths)):
        doubles, last = 0 < index <= _HALVINGS, index == len(_WIDTHS)
        layers.append(DecoderLayer(before, after, (height, width), doubles=doubles, last=last))
        if doubles:
            height, width = 2 * height, 2 * width
    return nn.Sequential(*layers)
