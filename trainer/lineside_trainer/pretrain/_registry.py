"""Which method is called what: a new one is its file and one line here."""

from __future__ import annotations

from typing import Final

import torch

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.models import Normalise
from lineside_trainer.pretrain.mae_learner import MaeLearner
from lineside_trainer.pretrain.method import Method
from lineside_trainer.pretrain.simmim_learner import SimMimLearner
from lineside_trainer.pretrain.simsiam_learner import SimSiamLearner

METHODS: Final[dict[str, type[Method]]] = {
    "mae": MaeLearner,
    "simmim": SimMimLearner,
    "simsiam": SimSiamLearner,
}


def check_method(experiment: Experiment) -> None:
    """Refuse what cannot learn, before any image is read: laid out without memory.

    Raises:
        ExperimentError: there is no such method, or it cannot be with these settings, this network
            and this image size.
    """
    model_input = InputSpec(size_hw=experiment.data.image_size_hw, channels=1)
    with torch.device("meta"):
        build_method(experiment, model_input, Normalise((0.0,), (1.0,)))


def build_method(experiment: Experiment, model_input: InputSpec, normalise: Normalise) -> Method:
    """Make the learner that `pretrain.method` names.

    Raises:
        ExperimentError: there is no such method.
    """
    build = METHODS.get(experiment.pretrain.method)
    if build is None:
        raise ExperimentError(
            f"pretrain.method: {experiment.pretrain.method!r} is unknown; "
            f"there are {', '.join(METHODS)}"
        )
    return build(experiment, model_input, normalise)
