"""How far an image would turn the decoder from where training turned it (GradCon).

Kwon et al. 2020; Ulger et al., eq. 4. Devices have no autograd, so the way back through the decoder
is written out: products with fixed matrices, which every engine knows. Everything here is a
snapshot of an autoencoder that has learnt, with batch norm folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lineside_trainer.models.autoencoder import SLOPE, DecoderLayer, bicubic_doubling

FLOOR: Final = 1e-8
"""Least norm of a layer's gradient, of the mean squared error in -1..1, that a direction is taken
of. An image that is reconstructed exactly has none: it points nowhere, and its cosine is 0. Trained
networks turned by 0.03 at least at every image of 938 joints: the floor bends no cosine that is.
"""

_KERNEL_PX: Final = 3


class Decoded(NamedTuple):
    """A reconstruction and what the way back needs.

    Attributes:
        reconstructions_nchw: (N, C, H, W) float32 in -1..1.
        inputs: of each layer, before its doubling, (N, channels, h, w) float32.
    """

    reconstructions_nchw: Tensor
    inputs: list[Tensor]


class SealedDecoder(nn.Module):
    """The decoder as plain convolutions with constants of their own.

    OpenVINO 2026.4.1 computes a wrong convolution where two operators share one weight constant.

    Args:
        layers: of an autoencoder that has learnt.
    """

    def __init__(self, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_seal_transposed(layer) for layer in layers)
        self.doublings = nn.ModuleList(layer.doubling or nn.Identity() for layer in layers)

    def forward(self, codes: Tensor) -> Decoded:
        """(N, 10, H/8, W/8) float32 to images."""
        maps, inputs = codes, []
        for index, (conv, doubling) in enumerate(zip(self.convs, self.doublings, strict=True)):
            inputs.append(maps)
            convolved = conv(doubling(maps))
            is_last = index == len(self.convs) - 1
            maps = torch.tanh(convolved) if is_last else F.leaky_relu(convolved, SLOPE)
        return Decoded(maps, inputs)


def fold_norm(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d | None) -> nn.Conv2d:
    """A 3x3 convolution and the batch norm behind it, as it judges, in one convolution.

    Args:
        weight: (outputs, inputs, 3, 3).
        bias: (outputs,) or None for zeros.
        norm: None for a convolution alone.
    """
    outputs, inputs = weight.shape[:2]
    folded = nn.Conv2d(inputs, outputs, _KERNEL_PX, padding=1).requires_grad_(False)
    shift = torch.zeros(outputs) if bias is None else bias.detach()
    scale, offset = norm_line(norm, outputs)
    kernel = weight.detach() * scale[:, None, None, None]
    folded.load_state_dict({"weight": kernel, "bias": shift * scale + offset})
    return folded


def norm_line(norm: nn.BatchNorm2d | None, channels: int) -> tuple[Tensor, Tensor]:
    """Factor and offset of a batch norm as it judges, (channels,) float32 each."""
    if norm is None:
        return torch.ones(channels), torch.zeros(channels)
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale


def _seal_transposed(layer: DecoderLayer) -> nn.Conv2d:
    return fold_norm(layer.conv.flipped(), layer.conv.bias, layer.norm)


class WeightGradients(nn.Module):
    """Gradients of each image's mean squared error by the decoder's own weights.

    For y = TransposedConv(x) with weight W and g the gradient by y:

        dW[i, o, k] = sum over m of x[i, m] P[o, k, m]
        g_x[i, m] = sum over o and k of W[i, o, k] P[o, k, m]
        P[o, k, m] = g[o, m + k - 1], the 3x3 patches of g

    Where x is a doubled map, x = U h V, the same holds of h with patches that were taken back
    through the doubling, P = (shifted U)^T g (shifted V)^T, at a quarter of the positions. So both
    products cost a quarter, and the way back costs less than the way there.

    Args:
        layers: of an autoencoder that has learnt.
    """

    def __init__(self, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        below = [None, *(layer.norm for layer in layers[:-1])]
        pairs = zip(layers, below, strict=True)
        self.steps = nn.ModuleList(_BackwardStep(layer, norm) for layer, norm in pairs)

    def _backward(self) -> list[_BackwardStep]:
        return [step for step in self.steps if isinstance(step, _BackwardStep)][::-1]

    def forward(self, decoded: Decoded, images_nchw: Tensor) -> list[Tensor]:
        """Of each layer, from the latent on: (N, inputs, outputs * 9) float32.

        Args:
            decoded: of the images.
            images_nchw: (N, C, H, W) float32 in -1..1.
        """
        shown = decoded.reconstructions_nchw
        units = images_nchw.shape[1] * images_nchw.shape[2] * images_nchw.shape[3]
        pull = (shown - images_nchw) * (1.0 - shown * shown) * (2.0 / units)  # through tanh
        gradients: list[Tensor] = []
        for step, maps in zip(self._backward(), reversed(decoded.inputs), strict=True):
            patches = step.patches(pull)  # (N, outputs * 9, h * w)
            gradients.insert(0, maps.flatten(2) @ patches.transpose(1, 2))
            pull = step.below(patches, maps)
        return gradients


class _BackwardStep(nn.Module):
    """The way back from behind a layer's convolution to behind the one below it."""

    kernel: Tensor
    slope_above: Tensor
    slope_below: Tensor
    rows: Tensor | None
    columns: Tensor | None

    def __init__(self, layer: DecoderLayer, norm_below: nn.BatchNorm2d | None) -> None:
        super().__init__()
        self.size_hw, self.outputs = layer.size_hw, layer.conv.out_channels
        kernel = layer.conv.weight.detach().flatten(1).clone()  # (inputs, outputs * 9)
        self.register_buffer("kernel", kernel, persistent=False)
        # Batch norm's factor and leaky ReLU's slope of the layer below are one product.
        slope = norm_line(norm_below, len(kernel))[0][:, None, None]
        self.register_buffer("slope_above", slope.clone(), persistent=False)
        self.register_buffer("slope_below", slope * SLOPE, persistent=False)
        doubles = layer.doubling is not None
        rows = shifted_doubling(layer.size_hw[0]) if doubles else None
        self.register_buffer("rows", rows, persistent=False)
        columns = shifted_doubling(layer.size_hw[1]).T.contiguous() if doubles else None
        self.register_buffer("columns", columns, persistent=False)

    def patches(self, pull: Tensor) -> Tensor:
        """(N, outputs, H, W), behind the convolution, to (N, outputs * 9, h * w)."""
        height, width = self.size_hw
        if self.rows is None or self.columns is None:
            return _plain_patches(pull)
        taken = self.rows @ pull @ self.columns  # (N, outputs, 3 * h, 3 * w)
        split = taken.reshape(-1, self.outputs, _KERNEL_PX, height, _KERNEL_PX, width)
        return split.transpose(3, 4).flatten(4).flatten(1, 3)

    def below(self, patches: Tensor, maps: Tensor) -> Tensor:
        """(N, inputs, h, w): through this convolution, then the leaky ReLU and norm below it.

        Args:
            patches: (N, outputs * 9, h * w).
            maps: (N, inputs, h, w), what came in; its sign is that of what leaky ReLU got.
        """
        pull = (self.kernel @ patches).reshape(maps.shape)
        return pull * torch.where(maps > 0.0, self.slope_above, self.slope_below)


class GradientCosines(nn.Module):
    """Cosines between gradients and the mean training gradients (eq. 4).

    Args:
        references: mean training gradient of each layer, (inputs, outputs, 3, 3) float32.
    """

    def __init__(self, references: Sequence[Tensor]) -> None:
        super().__init__()
        for index, reference in enumerate(references):
            length = reference.norm().clamp(min=torch.finfo(torch.float32).tiny)
            direction = (reference.detach() / length).flatten(1)
            self.register_buffer(f"direction_{index}", direction, persistent=False)

    def forward(self, gradients: Sequence[Tensor]) -> Tensor:
        """Of each layer (N, inputs, outputs * 9) to (N, layers), in -1..1."""
        cosines = [
            # Engines multiply and sum faster than they take a product with one column.
            (gradient * self.get_buffer(f"direction_{index}")).sum(dim=(1, 2))
            / torch.sqrt((gradient * gradient).sum(dim=(1, 2))).clamp(min=FLOOR)
            for index, gradient in enumerate(gradients)
        ]
        return torch.stack(cosines, dim=1)


class GradientLoss(nn.Module):
    """L_grad of eq. 4 for each image: MINUS the mean cosine over layers; the prose drops the minus.

    Args:
        layers: of an autoencoder that has learnt.
        references: its mean training gradients.
    """

    def __init__(self, layers: Sequence[DecoderLayer], references: Sequence[Tensor]) -> None:
        super().__init__()
        self.gradients = WeightGradients(layers)
        self.cosines = GradientCosines(references)

    def forward(self, decoded: Decoded, images_nchw: Tensor) -> Tensor:
        """(N,) float32 in -1..1: -1 where the image would turn the decoder as training did."""
        cosines: Tensor = self.cosines(self.gradients(decoded, images_nchw))  # (N, layers)
        return -cosines.mean(dim=1)


def shifted_doubling(extent: int) -> Tensor:
    """(3 * extent, 2 * extent) float32: back through a doubling that was shifted by -1, 0 and 1.

    Row k * extent + m holds what the doubled unit a - k + 1 takes of unit m; nothing outside.
    """
    doubled = bicubic_doubling(extent)
    padded = F.pad(doubled, (0, 0, 1, 1))  # (2 * extent + 2, extent)
    shifts = [padded[2 - k : 2 - k + 2 * extent] for k in range(_KERNEL_PX)]
    return torch.cat([shift.T for shift in shifts]).contiguous()


def _plain_patches(pull: Tensor) -> Tensor:
    """(N, outputs, h, w) to (N, outputs * 9, h * w); outside there are zeros."""
    height, width = pull.shape[2:]
    padded = F.pad(pull, (1, 1, 1, 1))
    shifts = [
        padded[:, :, row : row + height, column : column + width].flatten(2)
        for row in range(_KERNEL_PX)
        for column in range(_KERNEL_PX)
    ]
    return torch.stack(shifts, dim=2).flatten(1, 2)
