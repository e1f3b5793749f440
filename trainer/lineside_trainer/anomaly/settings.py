"""What `train --task anomaly` may be told, and what it may not."""

from __future__ import annotations

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import AnomalySettings, Experiment, TrainSettings
from lineside_trainer.models import AUTOENCODERS
from lineside_trainer.models.autoencoder_detector import check_score_of
from lineside_trainer.models.patch_memory import check_neighbours

_OF_AUTOENCODERS = ("score", "beta", "reduction", "alpha", "gamma", "tsne_runs")
_OF_MEMORIES = ("memory_patches", "memory_layer", "memory_neighbours")
_OF_LABELS = ("probe", "head_width", "drop_path", "patch_drop", "label_smoothing")


def check_anomaly(experiment: Experiment) -> None:
    """Refuse settings that learning from good parts alone would pass over.

    Raises:
        ExperimentError: there is one.
    """
    settings = experiment.train
    _check_foreign(settings)
    if settings.unit != "1" or settings.worse != "higher":
        field = "unit" if settings.unit != "1" else "worse"
        raise ExperimentError(
            f"train.{field}: {getattr(settings, field)!r}; an anomaly score has the unit 1, and "
            "higher is worse: leave it away"
        )
    if settings.good and not settings.target:
        raise ExperimentError(
            f"train.good: {', '.join(settings.good)}, of which column? give --target COLUMN, or "
            "leave it away: then every image counts as good"
        )
    if experiment.model.arch in AUTOENCODERS:
        _check_autoencoder(experiment)
    else:
        _check_memory(experiment)


def _check_foreign(settings: TrainSettings) -> None:
    asked = {name: getattr(settings, name) for name in _OF_LABELS}
    asked |= {"teacher.run": settings.teacher.run, "slim.run": settings.slim.run}
    asked["label_share"] = settings.label_share if settings.label_share < 1.0 else None
    for name, value in asked.items():
        if value:
            raise ExperimentError(
                f"train.{name}: {value} has no meaning with --task anomaly, which learns from good "
                "parts alone and has no head; leave it away"
            )


def _refuse_told(experiment: Experiment, names: tuple[str, ...], why: str) -> None:
    """Those of the other family, where they are not as they are when nobody tells them."""
    asked, untold = experiment.train.anomaly, AnomalySettings()
    for name in names:
        if getattr(asked, name) != getattr(untold, name):
            raise ExperimentError(
                f"train.anomaly.{name}: {getattr(asked, name)}; {why}: leave it away"
            )


def _check_autoencoder(experiment: Experiment) -> None:
    model, init = experiment.model, experiment.train.init
    _refuse_told(experiment, _OF_MEMORIES, f"{model.arch} learns and keeps no memory of patches")
    start = init or model.weights or ("a download" if model.download else "")
    if model.arch == "vae" and experiment.train.anomaly.beta != 1.0:
        raise ExperimentError(
            f"train.anomaly.beta: {experiment.train.anomaly.beta:g}; a VAE has beta 1, with any "
            "other it is a beta-VAE: take --arch beta_vae, or leave --beta away"
        )
    if model.arch == "cae" and experiment.train.anomaly.beta != 0.0:
        raise ExperimentError(
            f"train.anomaly.beta: {experiment.train.anomaly.beta:g}; a CAE has no divergence that "
            "it could weigh: take --arch beta_vae, or leave --beta away"
        )
    check_score_of(model.arch, experiment.train.anomaly.score)
    if start:
        raise ExperimentError(
            f"model.arch: {model.arch} learns from noise and cannot start from {start}; leave "
            "--arch away for a memory of that network's patches, or the start"
        )


def _check_memory(experiment: Experiment) -> None:
    model, settings = experiment.model, experiment.train
    if not (settings.init or model.weights or model.download):
        raise ExperimentError(
            f"train.init: a memory of good patches is worth what its network has learnt before, "
            f"and {model.arch} would be noise; give --init RUN of a finished `lineside pretrain` "
            f"(or --weights FILE), or take --arch {', '.join(AUTOENCODERS)}"
        )
    _refuse_told(
        experiment,
        _OF_AUTOENCODERS,
        f"a memory of good patches on {model.arch} has one score and learns nothing; only "
        f"autoencoders ({', '.join(AUTOENCODERS)}) have this",
    )
    check_neighbours(settings.anomaly.memory_neighbours)
