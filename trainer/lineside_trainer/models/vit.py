"""Vision transformers on timm (Röhrich et al., sec. 4.1, table 2): any size, patch and depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Pool
from lineside_trainer.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class VitShape:
    """One row of table 2."""

    depth: int
    width: int
    heads: int


SHAPES: Final[dict[str, VitShape]] = {
    "vit_tiny": VitShape(depth=12, width=192, heads=3),
    "vit_small": VitShape(depth=12, width=384, heads=6),
    "vit_base": VitShape(depth=12, width=768, heads=12),
}


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """How an image is cut into patches (eq. 2).

    Attributes:
        size_hw: image height and width in pixels.
        patch_px: side of the square patch.
        channels: of the image.

    Raises:
        ExperimentError: the patches do not divide the image.
    """

    size_hw: tuple[int, int]
    patch_px: int
    channels: int

    def __post_init__(self) -> None:
        height, width = self.size_hw
        if self.patch_px < 1 or height % self.patch_px or width % self.patch_px or not height:
            raise ExperimentError(
                f"model.patch_px: {self.patch_px} px does not divide the image of "
                f"{height}x{width} px (height x width); choose a patch or a data.image_size_hw "
                "that fits"
            )

    @property
    def rows_cols(self) -> tuple[int, int]:
        """Patches along height and width."""
        return self.size_hw[0] // self.patch_px, self.size_hw[1] // self.patch_px

    @property
    def count(self) -> int:
        """N of eq. 2."""
        return math.prod(self.rows_cols)

    @property
    def values(self) -> int:
        """Pixel values in one patch, P."""
        return self.patch_px**2 * self.channels


def patchify(images_nchw: Tensor, grid: PatchGrid) -> Tensor:
    """Cut images into flat patches.

    Args:
        images_nchw: (N, C, H, W) of any dtype.
        grid: how to cut.

    Returns:
        (N, L, P), patches row by row; inside a patch: rows, columns, channels.
    """
    rows, cols = grid.rows_cols
    patch = grid.patch_px
    cells = images_nchw.reshape(-1, grid.channels, rows, patch, cols, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(-1, grid.count, grid.values)


def unpatchify(patches: Tensor, grid: PatchGrid) -> Tensor:
    """Undo ``patchify``: (N, L, P) to (N, C, H, W)."""
    rows, cols = grid.rows_cols
    patch = grid.patch_px
    cells = patches.reshape(-1, rows, cols, patch, patch, grid.channels)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(-1, grid.channels, *grid.size_hw)


def sine_positions(grid: PatchGrid, width: int) -> Tensor:
    """Fixed 2-D sine-cosine positions (He et al. 2022, appendix A.1): (L, width) float32.

    Half of the width codes the row, half the column.

    Raises:
        ExperimentError: ``width`` is no multiple of 4.
    """
    if width % 4:
        raise ExperimentError(f"width {width}: sine positions need a multiple of 4")
    rows, cols = grid.rows_cols
    frequencies = 1.0 / 10_000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    angles = [axis.reshape(-1, 1).double() * frequencies for axis in (row, col)]
    parts = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=1).float()


def check_vit(arch: str, size_hw: tuple[int, int], patch_px: int) -> None:
    """Refuse what cannot be built, before any image is read.

    Raises:
        ExperimentError: an unknown ``arch``, patches that do not divide the image.
    """
    _shape(arch)
    PatchGrid(size_hw=size_hw, patch_px=patch_px, channels=1)  # the fit does not depend on channels


def build_vit(arch: str, grid: PatchGrid, *, drop_path: float = 0.0) -> VisionTransformer:
    """Make a timm ViT without a head: ``forward_features`` gives (N, 1 + L, width) tokens.

    Positions are learnable but start as sine waves, not noise: on a few hundred images the order
    of the patches is otherwise learnt late.

    Raises:
        ExperimentError: an unknown ``arch``.
    """
    shape = _shape(arch)
    net = VisionTransformer(
        img_size=grid.size_hw,
        patch_size=grid.patch_px,
        in_chans=grid.channels,
        num_classes=0,
        global_pool="token",
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        drop_path_rate=drop_path,
    )
    positions = torch.zeros(1, 1 + grid.count, shape.width)
    positions[0, 1:] = sine_positions(grid, shape.width)
    net.pos_embed = nn.Parameter(positions)
    return net


class VitBackbone(Backbone):
    """The paper's transformer (sec. 4.1).

    Args:
        net: of ``build_vit``.
        grid: how images are cut.
        pool: what is a feature: the class token, or the mean over patches.
        patch_drop: share of patches that a training step leaves out (Liu et al. 2022,
            "PatchDropout"): cheaper steps, and no single patch decides.
    """

    net: VisionTransformer
    head_width = 2048  # sec. 4.1

    def __init__(
        self,
        net: VisionTransformer,
        grid: PatchGrid,
        *,
        pool: Pool = "mean",
        patch_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if patch_drop:
            net.patch_drop = PatchDropout(patch_drop, num_prefix_tokens=1)
        self.net = net
        self.grid = grid
        self.pool: Pool = pool
        self.width = net.embed_dim

    def feature(self, images_nchw: Tensor) -> Tensor:
        tokens = self.net.forward_features(images_nchw)
        return tokens[:, 0] if self.pool == "cls" else tokens[:, 1:].mean(dim=1)

    def feature_map(self, images_nchw: Tensor) -> Tensor:
        return self.as_map(self.net.forward_features(images_nchw))

    @property
    def depth(self) -> int:
        return len(self.net.blocks)

    def map_after(self, images_nchw: Tensor, stages: int) -> Tensor:
        """As `feature_map`, also through the last norm: what is left of one block is no sum of all
        before it, in which few channels are large and drown the others."""
        net = self.net
        tokens = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images_nchw))))
        for block in net.blocks[:stages]:
            tokens = block(tokens)
        return self.as_map(net.norm(tokens))

    def layers(self) -> list[list[nn.Parameter]]:
        net = self.net
        return [
            [net.cls_token, net.pos_embed, *net.patch_embed.parameters()],
            *(list(block.parameters()) for block in net.blocks),
            list(net.norm.parameters()),
        ]

    @property
    def watched(self) -> nn.Module:
        """The first norm of the last block (sec. 5.3)."""
        return self._first_norm(len(self.net.blocks) - 1)

    @property
    def early(self) -> nn.Module:
        """The first norm of the second block: patches have met once, and still keep their place."""
        return self._first_norm(min(1, len(self.net.blocks) - 1))

    def _first_norm(self, block: int) -> nn.Module:
        return self.net.get_submodule(f"blocks.{block}.norm1")

    def as_map(self, activation: Tensor) -> Tensor:
        rows, cols = self.grid.rows_cols
        # Of len(patches), `torch.export` would make a constant, and freeze the batch.
        patches = activation[:, 1:].transpose(1, 2)  # (N, width, L)
        return patches.reshape(patches.shape[0], -1, rows, cols)


def _shape(arch: str) -> VitShape:
    shape = SHAPES.get(arch)
    if shape is None:
        raise ExperimentError(f"model.arch: {arch!r} is unknown; there are {', '.join(SHAPES)}")
    return shape
