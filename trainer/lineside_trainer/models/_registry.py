"""Which network is called what: a family is its file and one line here."""

from __future__ import annotations

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import ModelSettings, Pool
from lineside_trainer.models.autoencoder import AUTOENCODERS, check_autoencoder
from lineside_trainer.models.backbone import Backbone
from lineside_trainer.models.cnn import CNNS, CnnBackbone, check_cnn
from lineside_trainer.models.slim import check_slim, slim_blocks, slim_size
from lineside_trainer.models.timm_backbone import TimmBackbone, check_timm
from lineside_trainer.models.vit import SHAPES, PatchGrid, VitBackbone, build_vit, check_vit


def check_model(model: ModelSettings, size_hw: tuple[int, int]) -> None:
    """Refuse what cannot be built, before any image is read.

    Raises:
        ExperimentError: an unknown network, an image size it cannot take.
    """
    check_slim(model)
    if model.arch in AUTOENCODERS:
        check_autoencoder(model.arch, size_hw)
    elif model.arch in SHAPES:
        check_vit(model.arch, size_hw, model.patch_px)
    elif model.arch in CNNS:
        check_cnn(model.arch, size_hw)
    else:
        check_timm(model.arch, size_hw)


def build_backbone(
    model: ModelSettings,
    model_input: InputSpec,
    *,
    pool: Pool = "mean",
    drop_path: float = 0.0,
    patch_drop: float = 0.0,
) -> Backbone:
    """Make the network that `model.arch` names, with random weights.

    Args:
        model: which one.
        model_input: image size and channels.
        pool: of a ViT, see `TrainSettings`.
        drop_path: likewise.
        patch_drop: of a ViT, likewise.

    Raises:
        ExperimentError: an unknown network, an image size it cannot take, `drop_path` where no
            residual branch is.
    """
    if model.arch in AUTOENCODERS:
        raise ExperimentError(
            f"model.arch: {model.arch} has no features that a head could read: it learns by "
            "`lineside train --task anomaly` alone"
        )
    check_model(model, model_input.size_hw)
    if model.arch in SHAPES:
        grid = PatchGrid(
            size_hw=model_input.size_hw, patch_px=model.patch_px, channels=model_input.channels
        )
        net = build_vit(model.arch, grid, drop_path=drop_path)
        heads, units = slim_size(model)
        slim_blocks(net, heads=heads, units=units)
        return VitBackbone(net, grid, pool=pool, patch_drop=patch_drop)
    if model.arch in CNNS:
        return CnnBackbone(model.arch, channels=model_input.channels, drop_path=drop_path)
    return TimmBackbone(model.arch, model_input, drop_path=drop_path)
