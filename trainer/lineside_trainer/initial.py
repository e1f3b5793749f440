"""Weights from a pre-training run, and the proof that it saw no image it will be judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import Tensor

from lineside_trainer.durable import read_weights, write_tensors
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment, Table, read_experiment
from lineside_trainer.models import Backbone
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.results import PretrainResult
from lineside_trainer.runfolder import (
    BACKBONE,
    EXPERIMENT,
    RESULT,
    SEEN,
    file_sha256,
    read_document,
    write_document,
)

JUDGED_SETS = ("validation", "golden", "test")
_NAMED_IN_ERRORS = 3


class SeenImages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pre-training looked at.

    Attributes:
        transductive: it was allowed to see every image.
        files: SHA-256 of each file's bytes to its name.
    """

    transductive: bool
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """A backbone to start from.

    Attributes:
        folder: the run it is from.
        experiment: of that run.
        seen: what it looked at.
        weights: of the bare network.
    """

    folder: Path
    experiment: Experiment
    seen: SeenImages
    weights: dict[str, Tensor]


def save_backbone(folder: Path, backbone: Backbone, seen: SeenImages) -> None:
    """Leave what tuning needs.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    write_document(folder / SEEN, seen)
    write_tensors(folder / BACKBONE, {"weights": dict(backbone.net.state_dict())})


def seen_images(prepared: Prepared, rows: IntArray, *, transductive: bool) -> SeenImages:
    """Fingerprints of these rows' files."""
    records = [prepared.table.records[row] for row in rows]
    files = {file_sha256(record.file): record.name for record in records}
    return SeenImages(transductive=transductive, files=files)


def inherited_settings(asked: Experiment) -> Table:
    """What a tuning run takes over from `train.init` where it is not told otherwise: the network,
    and on the same images the split, so that nothing it saw is reported on.

    Raises:
        ExperimentError: there is no such run.
    """
    folder = Path(asked.train.init)
    path = folder / EXPERIMENT
    if not path.exists():
        raise ExperimentError(
            f"train.init: {folder} is no run ({EXPERIMENT} is missing); "
            "name the --out folder of a finished `lineside pretrain`"
        )
    before = read_experiment(path, {})
    data, model = before.data, before.model
    handed_on: dict[str, str | int | list[int]] = {
        "image_size_hw": list(data.image_size_hw),
        "channels": data.channels,
    }
    if data.folder == asked.data.folder:
        handed_on |= {
            "group": data.group,
            "split_column": data.split_column,
            "split_seed": data.split_seed,
        }
    return {"data": handed_on, "model": {"arch": model.arch, "patch_px": model.patch_px}}


def read_initial(folder: Path) -> InitialWeights:
    """Read a finished pre-training.

    Raises:
        ExperimentError: it is no pre-training.
        TrainerError: it is not finished, or damaged.
    """
    if (folder / RESULT).exists() and not (folder / BACKBONE).exists():
        raise ExperimentError(
            f"train.init: {folder} is no pre-training ({BACKBONE} is missing); "
            "name the --out folder of a finished `lineside pretrain`"
        )
    read_document(folder / RESULT, PretrainResult)  # the report shows it: not to fail only there
    return InitialWeights(
        folder=folder,
        experiment=read_experiment(folder / EXPERIMENT, {}),
        seen=read_document(folder / SEEN, SeenImages),
        weights=read_weights(folder / BACKBONE),
    )


def load_backbone(backbone: Backbone, initial: InitialWeights) -> None:
    """Copy the weights.

    Raises:
        ExperimentError: the networks are not of one shape.
    """
    try:
        backbone.net.load_state_dict(initial.weights)
    except RuntimeError as error:
        # torch's own message lists every tensor of the network.
        model, data = initial.experiment.model, initial.experiment.data
        height, width = data.image_size_hw
        raise ExperimentError(
            f"train.init: {initial.folder} holds another network: {model.arch} on images of "
            f"{height}x{width} px (height x width) in patches of {model.patch_px} px; leave "
            "--arch, --image-size, --patch and data.channels away, and they are taken over"
        ) from error


def check_unseen(prepared: Prepared, initial: InitialWeights) -> tuple[str, ...]:
    """Prove that pre-training saw none of the images this run is judged on.

    Returns:
        Notes for the report; empty where all is well.

    Raises:
        ExperimentError: it saw some, and was not marked as transductive.
    """
    table, seen = prepared.table, initial.seen.files
    judged = [row for name in JUDGED_SETS for row in prepared.split.indices[name]]
    known = [row for row in judged if file_sha256(table.records[row].file) in seen]
    if not known:
        return ()
    if initial.seen.transductive:
        return (
            f"TRANSDUCTIVE: pre-training saw {len(known)} of the {len(judged)} images that this "
            "run is judged on (without their targets)",
        )
    fold = prepared.split.fold("training")
    own = {file_sha256(table.records[row].file) for row in fold}
    leaked = [row for row in known if file_sha256(table.records[row].file) not in own]
    if leaked:
        names = ", ".join(table.records[row].name for row in leaked[:_NAMED_IN_ERRORS])
        raise ExperimentError(
            f"train.init: {initial.folder} was pre-trained on {len(leaked)} images that are now "
            f"for validation or test ({names}, …): give the same --group, --split-column and "
            "data.split_seed to both runs, or pre-train with --transductive, which marks the report"
        )
    return (
        f"{len(known)} images that this run is judged on are copies, byte for byte, of training "
        "images",
    )
