"""Which method is called what: a new one is its file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lineside.contract import InputSpec
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment
from lineside_trainer.models import Normalise
from lineside_trainer.pretrain.mae_learner import MaeLearner
from lineside_trainer.pretrain.method import Method

METHODS: Final[dict[str, Callable[[Experiment, InputSpec, Normalise], Method]]] = {
    "mae": MaeLearner,
}


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
