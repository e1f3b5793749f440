"""Raw pixels to one value: normalisation, encoder, the paper's wide head, and the target's unit."""

from __future__ import annotations

import torch
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lineside_trainer.models.vit import Normalise, Pool, pool_tokens


class Regressor(nn.Module):
    """What is exported.

    Args:
        normalise: of the training fold.
        encoder: timm ViT of ``build_encoder``.
        pool: what the head reads.
        head_width: of its hidden layer (sec. 4.1: 2048).
        target_mean: of the training fold, in the target's unit.
        target_std: likewise; the network learns standardised targets.
        patch_drop: share of patches that a training step leaves out (Liu et al. 2022,
            "PatchDropout"): cheaper steps, and no single patch decides.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        normalise: Normalise,
        encoder: VisionTransformer,
        *,
        pool: Pool,
        head_width: int,
        target_mean: float,
        target_std: float,
        patch_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.encoder = encoder
        if patch_drop:
            encoder.patch_drop = PatchDropout(patch_drop, num_prefix_tokens=1)
        self.pool: Pool = pool
        last = nn.Linear(head_width, 1)
        nn.init.trunc_normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(encoder.embed_dim, head_width), nn.GELU(), last)
        self.register_buffer("target_mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(target_std, dtype=torch.float32))

    def standardised(self, images_nhwc: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N,) float32: value less mean, over std, of the training fold."""
        tokens = self.encoder.forward_features(self.normalise(images_nhwc))
        scores: Tensor = self.head(pool_tokens(tokens, self.pool))[:, 0].float()
        return scores

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N,) float32 in the target's unit."""
        return self.standardised(image) * self.target_std + self.target_mean
