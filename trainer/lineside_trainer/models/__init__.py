"""Networks, without losses."""

from lineside_trainer.models.regressor import Regressor
from lineside_trainer.models.vit import SHAPES, Normalise, PatchGrid, build_encoder

__all__ = ["SHAPES", "Normalise", "PatchGrid", "Regressor", "build_encoder"]
