"""A network without its head: the one shape in which methods, tasks and reports know a network."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Pixels to features.

    Attributes:
        net: the bare network, so that its ``state_dict`` has the names that weight files use.
        width: of a feature, and channels of the map.
        head_width: of the hidden layer that its paper puts on it; 0 is a head of one linear layer.
    """

    net: nn.Module
    width: int
    head_width: int = 0

    @abstractmethod
    def feature_map(self, images_nchw: Tensor) -> Tensor:
        """(N, C, H, W) float32, normalised, to (N, channels, h, w) before pooling."""

    @abstractmethod
    def feature(self, images_nchw: Tensor) -> Tensor:
        """(N, C, H, W) float32, normalised, to one feature an image, (N, width)."""

    @property
    def depth(self) -> int:
        """Blocks or stages, after each of which a map can be taken; 1 knows the last map only."""
        return 1

    def map_after(self, images_nchw: Tensor, stages: int) -> Tensor:
        """What `feature_map` would give, were the network only so deep.

        Args:
            images_nchw: (N, C, H, W) float32, normalised.
            stages: how many of `depth` blocks or stages it passes, 1 at least; all of them give
                `feature_map`.

        Returns:
            (N, channels, h, w) float32; channels and size are the stage's own.
        """
        assert stages == self.depth == 1, "a network with more stages says how"
        return self.feature_map(images_nchw)

    @abstractmethod
    def layers(self) -> list[list[nn.Parameter]]:
        """Every trained parameter once, from the input to the output."""

    @property
    @abstractmethod
    def watched(self) -> nn.Module:
        """The last layer whose output is a map (Grad-CAM)."""

    @property
    @abstractmethod
    def early(self) -> nn.Module:
        """The second block or stage: its output is a map that still lies where the pixels are."""

    @abstractmethod
    def as_map(self, activation: Tensor) -> Tensor:
        """The output of one of these, or its gradient, as (N, channels, h, w)."""


def use_fused_attention(net: nn.Module, *, fused: bool) -> None:
    """Choose torch's fused attention kernel, or attention written out as matrix products.

    On CPUs the latter trains faster at these lengths (Zen 5, 2 cores, ViT-Ti, 65 tokens: 76
    against 70 images/s in fp32, 214 against 119 in bf16).
    """
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", fused)  # noqa: B010  (timm declares no such field)


def write_out_biased_attention(net: nn.Module) -> None:
    """Windows' attention as matrix products, for `torch.export`.

    The fused kernel with a bias or mask promises another memory layout when it is traced than when
    torch 2.15 takes it apart for ONNX: "Cannot view a tensor with shape (4*s, 16, 2, 16) and
    strides ...". Without a bias it stays one operator, and is not taken apart.
    """
    for module in net.modules():
        if hasattr(module, "relative_position_bias_table") and hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010  (timm declares no such field)
