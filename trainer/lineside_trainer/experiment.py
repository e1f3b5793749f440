"""What the trainer is told: `experiment.toml`, every setting in one place, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from lineside_trainer.data.augment import Augmentation
from lineside_trainer.data.views import Views

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Pool = Literal["cls", "mean"]
Verb = Literal["pretrain", "train"]
Setting = str | int | float | bool | list[int] | list[float] | list[str]
# A table of settings as TOML gives it, before it is checked against the structures below.
Table = Mapping[str, "Setting | Table"]


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which images.

    Attributes:
        folder: with `labels.csv`, or with a folder for each class.
        group: column that names the physical part; "" makes each image a part of its own.
        split_column: column that names the fold; "" splits 60/20/20 by part.
        assurance_share: of all images, in whole parts that nothing but the guarantee of `lineside
            export --max-escape` touches; the rest is split 60/20/20. 0 keeps none: with few parts
            they are worth more as training parts, because no promise could be proven on them.
        split_seed: of the split alone, so that runs with other seeds share their folds.
        split_seeds: one for each of `run.seeds`, in its place; empty splits once for all of them.
        image_size_hw: what the model sees, pixels, height then width.
        channels: 1 gray, 3 RGB, 0 as the images are.
        strict: an unusable file is an error instead of a line in the report.
    """

    folder: str = ""
    group: str = ""
    split_column: str = ""
    assurance_share: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    split_seed: int = 0
    split_seeds: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    image_size_hw: tuple[Count, Count] = (64, 64)
    channels: Literal[0, 1, 3] = 0
    strict: bool = False


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network.

    Attributes:
        arch: a ViT of table 2, or any other network that `models` knows.
        patch_px: side of a ViT's square patches.
        weights: file of weights to start from; "" starts from noise, or from a run's `init`.
        download: start from timm's pre-trained weights, fetched where they are not here yet.
        heads: of attention in each block of a ViT; 0 is as many as it has of old.
        mlp_share: of each block's hidden units that a ViT has, in steps of 8 units.
    """

    arch: str = "vit_tiny"
    patch_px: Count = 8
    weights: str = ""
    download: bool = False
    heads: Annotated[int, msgspec.Meta(ge=0)] = 0
    mlp_share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0


class FitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to descend: AdamW, linear warm-up, cosine to zero; or Adam at a rate that falls when
    nothing gets better.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: highest learning rate, as it is used; no scaling by batch size.
        optimizer: "adamw" decays weights apart from the gradient, "adam" as a part of it (L2).
        schedule: "cosine", or "plateau": the highest rate from the first step on, times
            `plateau_factor` whenever `plateau_patience` epochs in a row were not better.
        plateau_factor: what a plateau leaves of the rate.
        plateau_patience: epochs without a better validation figure that make a plateau.
        weight_decay: on matrices only.
        beta2: of the second moment; 0.95 suits masked autoencoders (He et al. 2022, table 8).
        warmup_share: share of all steps over which the rate rises; of a cosine alone.
        grad_clip: largest norm of the gradient; 0 is off.
        layer_decay: factor on the rate from each layer to the one below; 1 is off.
        ema: weight of the past in the averaged weights that are judged and kept; 0 is off.
        patience: epochs without a better validation figure after which it stops; 0 is off. The
            rate's cosine still ends at `epochs`: a fit that stops early never sees its low end.
    """

    epochs: Count
    batch_size: Count = 64
    lr: Positive
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "plateau"] = "cosine"
    plateau_factor: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.1
    plateau_patience: Count = 10
    weight_decay: NotNegative = 0.05
    beta2: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.999
    warmup_share: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.1
    grad_clip: NotNegative = 1.0
    layer_decay: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    ema: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    patience: Annotated[int, msgspec.Meta(ge=0)] = 0


class MaeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Masked autoencoder: table 3's best are the defaults.

    Attributes:
        mask_ratio: S, the share of patches that is hidden.
        decoder_depth: blocks.
        decoder_width: of a token; a multiple of 4 and of `decoder_heads`.
        decoder_heads: of attention.
        normalise_patches: predict each patch less its mean, over its std (He et al., sec. 4.1).
    """

    mask_ratio: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.75
    decoder_depth: Count = 2
    decoder_width: Count = 96
    decoder_heads: Count = 3
    normalise_patches: bool = False


class SimMimSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Simple masked image modelling.

    Attributes:
        mask_ratio: share of mask patches that is hidden.
        mask_patch_px: side of a mask patch: a multiple of the network's patch (Swin: 4 px) that
            divides the image; 0 scales the original's 32 px at 192 px.
    """

    mask_ratio: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.6
    mask_patch_px: Annotated[int, msgspec.Meta(ge=0)] = 0


class SimSiamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Siamese learning.

    Attributes:
        width: of the projector's layers and the embedding; 0 takes the backbone's.
        bottleneck: of the predictor's hidden layer; 0 is a quarter of `width`.
        collapse_below: an embedding whose standard deviation is below this share of the healthy
            1/sqrt(width) has collapsed; 0 looks away. Healthy runs on three data sets stay above
            0.9; without the stop-gradient or the predictor they end between 0.4 and 0.6.
        collapse_epochs: so many epochs in a row, from step 50 on, make it an error.
        views: what the two views of an image may differ in.
    """

    width: Annotated[int, msgspec.Meta(ge=0)] = 0
    bottleneck: Annotated[int, msgspec.Meta(ge=0)] = 0
    collapse_below: Share = 0.6
    collapse_epochs: Count = 3
    views: Views = Views()


class PretrainSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`lineside pretrain`. `transductive` shows it every image, and marks every report; `init` goes
    on from another pre-training's network, "" starts from noise or from `model.weights`."""

    method: str = "mae"
    init: str = ""
    transductive: bool = False
    fit: FitSettings = FitSettings(epochs=200, lr=1.5e-3, beta2=0.95)
    augment: Augmentation = Augmentation()
    mae: MaeSettings = MaeSettings()
    simmim: SimMimSettings = SimMimSettings()
    simsiam: SimSiamSettings = SimSiamSettings()


METHOD_DEFAULTS: Final[Mapping[str, Table]] = {
    "simmim": {"pretrain": {"fit": {"lr": 8e-4, "beta2": 0.999}}},
    # Views crop and flip by themselves.
    "simsiam": {
        "model": {"arch": "resnet50"},
        "pretrain": {
            "fit": {"lr": 5e-4, "beta2": 0.999, "weight_decay": 1e-4},
            "augment": {"flip_horizontal": False, "flip_vertical": False, "crop": "none"},
        },
    },
}
"""Where a method's defaults differ from those of the structures; anything told wins over them."""

FROM_NOISE_DEFAULTS: Final[Table] = {"train": {"fit": {"layer_decay": 1.0}}}
"""Likewise where `train` starts from nothing that was learnt before."""

_AUTOENCODER_FIT: Final[Table] = {
    "epochs": 100,
    "batch_size": 64,
    "lr": 1e-2,
    "optimizer": "adam",
    "schedule": "plateau",
    "plateau_factor": 0.1,
    "weight_decay": 1e-4,
    "warmup_share": 0.0,
    "grad_clip": 0.0,
    "layer_decay": 1.0,
    "ema": 0.0,
}
_AUTOENCODER_AUGMENT: Final[Table] = {"flip_vertical": False, "crop": "none"}

DEFAULT_AUTOENCODER: Final = "beta_vae"
"""What learns from good parts where neither a network nor a start is named."""

AUTOENCODER_DEFAULTS: Final[Mapping[str, Table]] = {
    arch: {
        "train": {
            "fit": _AUTOENCODER_FIT,
            "augment": _AUTOENCODER_AUGMENT,
            "anomaly": {"beta": beta, "gamma": gamma},
        }
    }
    for arch, beta, gamma in (("cae", 0.0, 0.12), ("vae", 1.0, 0.03), ("beta_vae", 3.0, 0.03))
}
"""Likewise by `model.arch` of an anomaly task: table I and sec. IV-A of Ulger et al. Gamma 0.12 is
that of Kwon et al.'s code. On solder joints it lifts a CAE's AUROC by 0.03 and costs a VAE as much:
0.03 costs it nothing that one could see."""


class TeacherSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished run to learn from beside the labels (distillation).

    Attributes:
        run: folder of a finished `lineside train`; "" learns from labels alone.
        prediction: weight of the difference from what it says; the labels' own loss has 1.
        feature: weight of the difference from its feature, which a linear layer predicts.
        temperature: T that softens class probabilities (Hinton et al. 2015).
        unlabelled: training images without a target, which the run can judge all the same, are
            learnt from too.
    """

    run: str = ""
    prediction: NotNegative = 1.0
    feature: NotNegative = 1.0
    temperature: Positive = 4.0
    unlabelled: bool = True


class SlimSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished run to go on from with fewer heads and hidden units: `model.heads` and
    `model.mlp_share` say how many; those that its loss feels most are kept.

    Attributes:
        run: folder of a finished `lineside train`; "" starts as `init` says.
    """

    run: str = ""


class AnomalySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `train --task anomaly` is told besides.

    The first seven are of autoencoders (`model.arch` cae, vae, beta_vae; Ulger et al.), the last
    three of a memory of good patches on any other network.

    Attributes:
        run: folder of a finished anomaly run whose autoencoder is taken as it is: only the score,
            its limit and the candidate are made anew; "" learns.
        score: what the exported graph gives: the reconstruction error (eq. 2), the negative ELBO
            (eq. 3), or GradCon, the error less `gamma` times the cosine of the gradients (eq. 4).
        beta: weight of the KL divergence in training; a "vae" has 1.
        reduction: of the squared error over pixels and of the KL divergence over latents while it
            learns. It fixes what `beta` means, and nothing else: a mean over 12,288 pixels and 640
            latents at beta 3 is a sum over both at beta 57.6. Scores are a loss per pixel.
        alpha: weight of the gradient constraint in training, beside the mean squared error of
            pixels in -1..1; 0 trains without.
        gamma: weight of the gradients in the GradCon score, beside the same error.
        tsne_runs: of which the best picture of the latents is shown; the paper takes 100.
        memory_patches: how many patches the memory keeps.
        memory_layer: how deep in the network they are taken, as a share of its blocks or stages:
            the last know what an image is, and little of what a patch looks like.
        memory_neighbours: side of the window of patches that is averaged around each, odd.
    """

    run: str = ""
    score: Literal["recon", "elbo", "gradcon"] = "gradcon"
    beta: NotNegative = 3.0
    reduction: Literal["sum", "mean"] = "sum"
    alpha: NotNegative = 0.03
    gamma: NotNegative = 0.12
    tsne_runs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    memory_patches: Count = 2000
    memory_layer: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.5
    memory_neighbours: Annotated[int, msgspec.Meta(ge=1)] = 3


class TrainSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`lineside train`.

    Attributes:
        task: what is learnt.
        target: column of `labels.csv`.
        init: folder of a finished `lineside pretrain`; "" starts from noise.
        probe: only a linear layer learns, on the frozen network's features.
        label_share: of the training fold's labels that may be used; the 10 % are inside the 20 %.
        pool: what a ViT's head reads: the class token, or the mean over patches.
        head_width: of the head's hidden layer, 0 for one linear layer; unset takes what the
            network's paper has: 2048 for ViTs (sec. 4.1), 0 for CNNs.
        drop_path: share of residual branches that a step leaves out, rising with depth.
        patch_drop: of a ViT: share of patches that a training step leaves out; all are seen when
            judging.
        good: of a classification: which classes are of good parts; empty takes the one with a
            good name.
        class_weights: of a classification: "balanced" lets every class have the same say.
        label_smoothing: of a classification: share of a label that is spread over all classes.
        limit: scores beyond it are `NOT_OK`; unset proposes no rule.
        worse: which end of the scale is the bad one.
        unit: of the target, e.g. "1" or "mm".
        product: what kind of part it judges; "" takes the data folder's name.
    """

    task: str = "regression"
    target: str = ""
    init: str = ""
    probe: bool = False
    label_share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    pool: Pool = "mean"
    head_width: Annotated[int, msgspec.Meta(ge=0)] | None = None
    drop_path: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    patch_drop: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    good: tuple[str, ...] = ()
    class_weights: Literal["balanced", "none"] = "balanced"
    label_smoothing: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    limit: float | None = None
    worse: Literal["higher", "lower"] = "higher"
    unit: str = "1"
    product: str = ""
    fit: FitSettings = FitSettings(epochs=100, lr=1e-3, layer_decay=0.75, ema=0.99)
    augment: Augmentation = Augmentation()
    teacher: TeacherSettings = TeacherSettings()
    slim: SlimSettings = SlimSettings()
    anomaly: AnomalySettings = AnomalySettings()


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how it runs.

    Attributes:
        seed: of every draw but the split.
        seeds: runs, with as many seeds from `seed` on; their mean and spread are reported.
        device: "auto" takes a GPU where there is one.
        devices: processes on this machine, each with a GPU of its own, or on CPUs; they share every
            batch. Under torchrun or srun left away: those have said it.
        nodes: machines, each of which torchrun or srun calls this on; likewise.
        precision: "auto" is bf16 autocast on a GPU and fp32 on a CPU.
        checkpoint_every_s: at the first epoch's end after so many seconds, and after the last; 0
            is every epoch. What a kill can cost at most, against the time the disk takes.
        checkpoint_every_steps: besides, after every so many steps; 0 is off.
    """

    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    seeds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Count = 1
    nodes: Count = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every_s: NotNegative = 30.0
    checkpoint_every_steps: Annotated[int, msgspec.Meta(ge=0)] = 0


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. One file may serve both verbs: they share `data`, `model` and `run`."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    train: TrainSettings = TrainSettings()
    run: RunSettings = RunSettings()
