"""Masked autoencoder (Röhrich et al., sec. 4.1; He et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError, MaskError
from lineside_trainer.models.vit import VitBackbone, patchify, sine_positions
from lineside_trainer.pretrain.masks import draw_hidden


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The light half that is thrown away after pre-training."""

    depth: int
    width: int
    heads: int

    def __post_init__(self) -> None:
        if self.width % 4 or self.width % self.heads:
            raise ExperimentError(
                f"pretrain.mae.decoder_width: {self.width} must be a multiple of 4 (positions) "
                f"and of decoder_heads, {self.heads}"
            )


def removed_count(patches: int, mask_ratio: float) -> int:
    """floor(N·S) of sec. 4.1.

    Raises:
        ExperimentError: nothing would be hidden, or nothing would be left to see.
    """
    # 0.7 * 10 is 6.999…: the paper's floor is that of the exact product.
    removed = math.floor(round(patches * mask_ratio, 9))
    if not 0 < removed < patches:
        raise ExperimentError(
            f"pretrain.mae.mask_ratio: {mask_ratio} hides {removed} of {patches} patches; "
            "at least one must be hidden and one visible"
        )
    return removed


def draw_mask(images: int, patches: int, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Choose what each image hides, each on its own, without replacement.

    Args:
        images: how many.
        patches: of one image, N.
        mask_ratio: S, between 0 and 1.
        generator: of the draws; the mask is made on its device.

    Returns:
        (images, patches) bool; True = hidden from the encoder; floor(N·S) in every row.

    Raises:
        ExperimentError: nothing would be hidden, or nothing would be left to see.
    """
    return draw_hidden(images, patches, removed_count(patches, mask_ratio), generator)


def masked_mse(target: Tensor, prediction: Tensor, removed: Tensor) -> Tensor:
    """Mean squared error over removed patches only.

    Röhrich et al., eq. 5; He et al. 2022, sec. 3. Differs: the mean instead of the sum, so that
    the figure does not depend on image, patch or batch size.

    Args:
        target: (N, L, P) float32.
        prediction: (N, L, P) float32, same scale.
        removed: (N, L) bool; True = hidden from the encoder.

    Returns:
        () float32.

    Raises:
        MaskError: nothing was removed, so the mean is undefined.
    """
    if not bool(removed.any()):
        raise MaskError("no patch was removed: the reconstruction loss has nothing to look at")
    return (prediction[removed] - target[removed]).square().mean()


def normalise_patches(patches: Tensor) -> Tensor:
    """Each patch to mean 0 and std 1 over its own pixels (He et al. 2022, sec. 4.1).

    Args:
        patches: (N, L, P) float32 of any scale; one without contrast becomes 0.

    Returns:
        (N, L, P) float32.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


class MaskedAutoencoder(nn.Module):
    """Encoder over visible patches, decoder over all places.

    Args:
        backbone: the encoder; trained in place.
        decoder: its size.
    """

    positions: Tensor

    def __init__(self, backbone: VitBackbone, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone
        grid = backbone.grid
        self.embed = nn.Linear(backbone.width, decoder.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder.width))
        nn.init.normal_(self.mask_token, std=0.02)
        positions = torch.zeros(1, 1 + grid.count, decoder.width)
        positions[0, 1:] = sine_positions(grid, decoder.width)
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.Sequential(
            *(Block(decoder.width, decoder.heads, qkv_bias=True) for _ in range(decoder.depth))
        )
        self.norm = nn.LayerNorm(decoder.width)
        self.to_pixels = nn.Linear(decoder.width, grid.values)

    def encode(self, images_nchw: Tensor, removed: Tensor) -> Tensor:
        """Encode what is left of each image.

        Args:
            images_nchw: (N, C, H, W) float32, normalised.
            removed: (N, L) bool, equally many in every row; True = hidden.

        Returns:
            (N, 1 + V, width) tokens: class token, then the V visible patches in order.
        """
        net = self.backbone.net
        assert net.pos_embed is not None and net.cls_token is not None, "built by build_vit"
        patches = net.patch_embed(images_nchw) + net.pos_embed[:, 1:]
        visible = patches[~removed].reshape(patches.shape[0], -1, patches.shape[2])
        first = (net.cls_token + net.pos_embed[:, :1]).expand(patches.shape[0], -1, -1)
        tokens: Tensor = net.norm(net.blocks(net.norm_pre(torch.cat([first, visible], dim=1))))
        return tokens

    def decode(self, tokens: Tensor, removed: Tensor) -> Tensor:
        """Predict every patch.

        Args:
            tokens: (N, 1 + V, width) of ``encode``.
            removed: the same mask.

        Returns:
            (N, L, P) float32.
        """
        embedded = self.embed(tokens)
        places = self.mask_token.to(embedded.dtype).expand(*removed.shape, -1).clone()
        places[~removed] = embedded[:, 1:].reshape(-1, embedded.shape[2])
        sequence = torch.cat([embedded[:, :1], places], dim=1) + self.positions
        pixels: Tensor = self.to_pixels(self.norm(self.blocks(sequence))[:, 1:])
        return pixels.float()

    def forward(self, images_nchw: Tensor, removed: Tensor) -> Tensor:
        """(N, C, H, W) and (N, L) bool to the prediction of all patches, (N, L, P)."""
        return self.decode(self.encode(images_nchw, removed), removed)

    def patches(self, images_nchw: Tensor) -> Tensor:
        """The pixels the prediction is held against: (N, L, P)."""
        return patchify(images_nchw, self.backbone.grid)
