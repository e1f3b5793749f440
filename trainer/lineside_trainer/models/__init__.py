"""Networks, without losses."""

from lineside_trainer.models._registry import build_backbone, check_model
from lineside_trainer.models.autoencoder import AUTOENCODERS
from lineside_trainer.models.backbone import (
    Backbone,
    use_fused_attention,
    write_out_biased_attention,
)
from lineside_trainer.models.headed import Headed
from lineside_trainer.models.normalise import Normalise

__all__ = [
    "AUTOENCODERS",
    "Backbone",
    "Headed",
    "Normalise",
    "build_backbone",
    "check_model",
    "use_fused_attention",
    "write_out_biased_attention",
]
