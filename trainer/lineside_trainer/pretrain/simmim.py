"""Simple masked image modelling (Intxausti et al., sec. 3.3; Xie et al. 2022).

Unlike a masked autoencoder, the network sees the whole grid, with a learnt token in the hidden
places, so networks that work in windows and stages can learn by it too; and its decoder is one
linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError, MaskError
from lineside_trainer.models import Backbone

SIDE_OVER_MASK_PATCH: Final = 6
"""Of the original: mask patches of 32 px on images of 192 px (sec. 4.1)."""


def has_tokens(backbone: Backbone) -> bool:
    """Whether a mask's token can take the place of a patch's."""
    return isinstance(backbone.net, VisionTransformer | SwinTransformer | SwinTransformerV2)


def token_px(backbone: Backbone) -> int:
    """Side of the patch that becomes one token, pixels: what a mask is made of."""
    embed: Any = backbone.net.get_submodule("patch_embed")
    rows_px, cols_px = embed.patch_size
    assert rows_px == cols_px, "every such network of timm has square patches"
    return int(rows_px)


def stride_px(backbone: Backbone) -> int:
    """Side of what one place of the last feature map stands for, pixels."""
    stages = getattr(backbone.net, "layers", ())
    return token_px(backbone) << max(0, len(stages) - 1)


def choose_mask_patch_px(size_hw: tuple[int, int], unit_px: int, asked_px: int) -> int:
    """Side of the square that is hidden or seen as a whole.

    The original's 32 px at 192 px, scaled: of the multiples of the network's patch that divide
    both sides of the image, the one whose ratio to a sixth of the shorter side is nearest to 1.

    Args:
        size_hw: of the image, pixels.
        unit_px: side of the network's patches.
        asked_px: `pretrain.simmim.mask_patch_px`; 0 scales.

    Raises:
        ExperimentError: what is asked for is no multiple of the patch, or does not divide the
            image.
    """
    sides = math.gcd(*size_hw)
    fitting = [px for px in range(unit_px, sides + 1, unit_px) if sides % px == 0]
    if not asked_px:
        wanted = min(size_hw) / SIDE_OVER_MASK_PATCH
        return min(fitting, key=lambda px: abs(math.log(px / wanted)))
    if asked_px not in fitting:
        height, width = size_hw
        raise ExperimentError(
            f"pretrain.simmim.mask_patch_px: {asked_px} px does not fit an image of "
            f"{height}x{width} px (height x width) that the network sees in patches of {unit_px} "
            f"px; there are {', '.join(map(str, fitting))}, and 0 to let it be chosen"
        )
    return asked_px


def hidden_count(patches: int, mask_ratio: float) -> int:
    """How many mask patches are hidden: the ratio rounded up, as the original's code does.

    Raises:
        ExperimentError: everything would be hidden.
    """
    # 0.55 * 100 is 55.000…01: the ceiling is that of the exact product.
    hidden = math.ceil(round(patches * mask_ratio, 9))
    if not 0 < hidden < patches:
        raise ExperimentError(
            f"pretrain.simmim.mask_ratio: {mask_ratio} hides {hidden} of {patches} mask patches; "
            "at least one must be hidden and one visible: take another ratio, or a smaller "
            "pretrain.simmim.mask_patch_px"
        )
    return hidden


def enlarge(mask: Tensor, factor: int) -> Tensor:
    """(N, rows, cols) to (N, rows * factor, cols * factor), each place a square."""
    return mask.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def masked_l1(target: Tensor, prediction: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute error over hidden pixels only.

    Intxausti et al., eq. 3, whose Ω "counts images"; this is the mean over pixels and channels, as
    Xie et al. 2022, eq. 1, and their code have it.

    Args:
        target: (N, C, H, W) float32.
        prediction: (N, C, H, W) float32, same scale.
        hidden: (N, H, W) bool; True = the network saw a mask token there.

    Returns:
        () float32.

    Raises:
        MaskError: nothing is hidden, so the mean is undefined.
    """
    if not bool(hidden.any()):
        raise MaskError("no pixel is hidden: the reconstruction loss has nothing to look at")
    places = hidden[:, None].expand_as(target)
    return (prediction[places] - target[places]).abs().mean()


class MaskedImageModel(nn.Module):
    """A backbone that sees mask tokens, and one 1x1 convolution back to pixels.

    Args:
        backbone: one that `has_tokens`; trained in place.
        size_hw: of the images.
        channels: of the images.

    Raises:
        ExperimentError: its map does not divide the image.
    """

    def __init__(self, backbone: Backbone, size_hw: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.token_px, stride = token_px(backbone), stride_px(backbone)
        if any(side % stride for side in size_hw):
            raise ExperimentError(
                f"data.image_size_hw: {size_hw[0]}x{size_hw[1]} px (height x width) is no whole "
                f"number of the {stride} px that one place of the network's last map stands for: "
                f"simmim needs multiples of {stride}"
            )
        self.backbone = backbone
        embed: Any = backbone.net.get_submodule("patch_embed")
        self.mask_token = nn.Parameter(torch.zeros(embed.proj.out_channels))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.to_pixels = nn.Conv2d(backbone.width, stride**2 * channels, kernel_size=1)
        self.spread = nn.PixelShuffle(stride)

    def forward(self, images_nchw: Tensor, hidden: Tensor) -> Tensor:
        """Predict every pixel.

        Args:
            images_nchw: (N, C, H, W) float32, normalised.
            hidden: (N, rows, cols) bool over the network's own patches; True = hidden.

        Returns:
            (N, C, H, W) float32.
        """
        embed = self.backbone.net.get_submodule("patch_embed")
        # Between the patches' embedding and their positions, of timm's networks as they are.
        handle = embed.register_forward_hook(self._put_in(hidden))
        try:
            features = self.backbone.feature_map(images_nchw)
        finally:
            handle.remove()
        pixels: Tensor = self.spread(self.to_pixels(features))
        return pixels.float()

    def _put_in(self, hidden: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def put(_: nn.Module, __: Any, tokens: Tensor) -> Tensor:
            # ViT: (N, L, width), Swin: (N, rows, cols, width); both row by row.
            places = hidden.reshape(*tokens.shape[:-1], 1)
            return torch.where(places, self.mask_token.to(tokens.dtype), tokens)

        return put
