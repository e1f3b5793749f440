"""What a network starts from, a run's or a file's weights, and the proof that what is known to be
seen holds no image that it will be judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from lineside_trainer.ancestry.weights_file import download_weights, read_weights_file
from lineside_trainer.durable import read_weights, write_tensors
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment, Table, Verb
from lineside_trainer.experiment_file import (
    read_experiment,
)
from lineside_trainer.models import Backbone
from lineside_trainer.models.weights import RowsCols, Tensors, fit_weights
from lineside_trainer.prepared import IntArray, Prepared
from lineside_trainer.runs.results import PretrainResult
from lineside_trainer.runs.runfolder import (
    BACKBONE,
    EXPERIMENT,
    RESULT,
    SEEN,
    file_sha256,
    read_document,
    write_document,
)

JUDGED_SETS = ("validation", "golden", "assurance", "test")
_NAMED_IN_ERRORS = 3
_NAMED_IN_NOTES = 8


class SeenImages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pre-training looked at, and what those before it that it grew from did.

    Attributes:
        transductive: it was allowed to see every image.
        files: SHA-256 of each file's bytes to its name.
    """

    transductive: bool
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Weights to start from.

    Attributes:
        told: setting and source, for errors.
        init: folder of the run they are from, "" for a file.
        file: that holds them.
        sha256: of it, 64 hex.
        weights: of the bare network.
        rows_cols: patches along height and width that a ViT's positions are of, where known.
        seen: what they were learnt from; None where a file does not say.
    """

    told: str
    init: str
    file: Path
    sha256: str
    weights: Tensors
    rows_cols: RowsCols | None
    seen: SeenImages | None

    @property
    def transductive(self) -> bool:
        """Known to have seen images that runs are judged on."""
        return self.seen is not None and self.seen.transductive

    @property
    def weights_file(self) -> str:
        """The file, "" where a run names it."""
        return "" if self.init else str(self.file)


def save_backbone(folder: Path, backbone: Backbone, seen: SeenImages) -> None:
    """Leave what tuning needs.

    Raises:
        StorageError: the disk is full, read-only or gone.
    """
    write_document(folder / SEEN, seen)
    write_tensors(folder / BACKBONE, {"weights": dict(backbone.net.state_dict())})


def seen_images(
    prepared: Prepared, rows: IntArray, initial: InitialWeights | None, *, transductive: bool
) -> SeenImages:
    """Fingerprints of these rows' files, and of those that the initial weights have seen."""
    before = None if initial is None else initial.seen
    records = [prepared.table.records[row] for row in rows]
    files = {file_sha256(record.file): record.name for record in records}
    if before is None:
        return SeenImages(transductive=transductive, files=files)
    return SeenImages(transductive=transductive or before.transductive, files=before.files | files)


def inherited_settings(asked: Experiment, verb: Verb) -> Table:
    """What a run takes over from its `init` where it is not told otherwise: the network, and on
    the same images the split, so that nothing it saw is reported on.

    Raises:
        ExperimentError: there is no such run.
    """
    init = _init(asked, verb)
    if not init:
        return {}
    folder = Path(init)
    path = folder / EXPERIMENT
    if not path.exists():
        raise ExperimentError(
            f"{verb}.init: {folder} is no run ({EXPERIMENT} is missing); "
            "name the --out folder of a finished `lineside pretrain`"
        )
    before = read_experiment(path, {})
    model = before.model
    names = ("arch", "patch_px", "heads", "mlp_share")
    return {
        "data": shared_data(asked, before),
        "model": {name: getattr(model, name) for name in names},
    }


def shared_data(asked: Experiment, before: Experiment) -> Table:
    """What runs that build on one another have in common: pixels, and on the same folder the split,
    so that nothing the one saw is reported on by the other."""
    data = before.data
    handed_on: dict[str, str | int | float | list[int]] = {
        "image_size_hw": list(data.image_size_hw),
        "channels": data.channels,
    }
    if data.folder == asked.data.folder:
        handed_on |= {
            "group": data.group,
            "split_column": data.split_column,
            "assurance_share": data.assurance_share,
            "split_seed": data.split_seed,
        }
        if asked.run.seeds > 1:
            handed_on["split_seeds"] = list(data.split_seeds)
    return handed_on


def find_initial(experiment: Experiment, verb: Verb) -> InitialWeights | None:
    """Read what `init`, `model.weights` or `model.download` names; None where none does.

    Raises:
        ExperimentError: more than one does, a run that is no pre-training, a file that is missing.
        TrainerError: it is not finished, damaged, or could not be fetched.
    """
    model, init = experiment.model, _init(experiment, verb)
    given = [
        name
        for name, value in (
            (f"{verb}.init", init),
            ("model.weights", model.weights),
            ("model.download", model.download),
        )
        if value
    ]
    if len(given) > 1:
        raise ExperimentError(f"{' and '.join(given)}: a network starts from one; leave one away")
    if init:
        return _from_run(Path(init), f"{verb}.init")
    if not given:
        return None
    file = Path(model.weights) if model.weights else download_weights(model.arch)
    of_a_run = file.name == BACKBONE and file.with_name(SEEN).exists()
    return InitialWeights(
        told=f"{given[0]}: {file}",
        init="",
        file=file,
        weights=read_weights_file(file, model.arch),
        sha256=file_sha256(file),
        rows_cols=None,
        seen=read_document(file.with_name(SEEN), SeenImages) if of_a_run else None,
    )


def _init(experiment: Experiment, verb: Verb) -> str:
    return experiment.pretrain.init if verb == "pretrain" else experiment.train.init


def _from_run(folder: Path, setting: str) -> InitialWeights:
    if (folder / RESULT).exists() and not (folder / BACKBONE).exists():
        raise ExperimentError(
            f"{setting}: {folder} is no pre-training ({BACKBONE} is missing); "
            "name the --out folder of a finished `lineside pretrain`"
        )
    read_document(folder / RESULT, PretrainResult)  # the report shows it: not to fail only there
    before = read_experiment(folder / EXPERIMENT, {})
    height, width = before.data.image_size_hw
    patch_px = before.model.patch_px
    return InitialWeights(
        told=f"{setting}: {folder} ({before.model.arch} on images of {height}x{width} px, height x "
        f"width; leave --arch away, and it is taken over)",
        init=str(folder),
        file=folder / BACKBONE,
        sha256=file_sha256(folder / BACKBONE),
        weights=read_weights(folder / BACKBONE),
        rows_cols=(height // patch_px, width // patch_px),
        seen=read_document(folder / SEEN, SeenImages),
    )


def load_backbone(backbone: Backbone, initial: InitialWeights) -> tuple[str, ...]:
    """Copy the weights.

    Returns:
        Notes for the report.

    Raises:
        ExperimentError: they are of another network.
    """
    done = fit_weights(backbone, initial.weights, told=initial.told, rows_cols=initial.rows_cols)
    notes = []
    if initial.seen is None:
        notes.append(
            f"started from {initial.file.name} (SHA-256 {initial.sha256[:16]}…): which images it "
            "has seen is not known, so nothing proves that it saw none of those it is judged on"
        )
    if done.changes:
        notes.append(f"initial weights made to fit: {'; '.join(done.changes)}")
    if done.ignored:
        shown, more = done.ignored[:_NAMED_IN_NOTES], len(done.ignored) - _NAMED_IN_NOTES
        rest = f" and {more} more" if more > 0 else ""
        notes.append(f"initial weights left out: {', '.join(shown)}{rest}")
    return tuple(notes)


def _refuse_seen_assurance(prepared: Prepared, initial: InitialWeights, known: set[int]) -> None:
    """A promise about parts that no model has seen cannot be marked as something less."""
    seen = sorted(known.intersection(prepared.split.indices["assurance"].tolist()))
    if seen and initial.seen is not None and initial.seen.transductive:
        names = ", ".join(prepared.table.records[row].name for row in seen[:_NAMED_IN_ERRORS])
        raise ExperimentError(
            f"{initial.told}: was pre-trained on {len(seen)} images that are now for assurance "
            f"({names}, …): pre-train again with the same data.assurance_share; --transductive "
            "then leaves them out"
        )


def check_unseen(prepared: Prepared, initial: InitialWeights) -> tuple[str, ...]:
    """Prove that pre-training saw none of the images this run is judged on.

    Returns:
        Notes for the report; empty where all is well.

    Raises:
        ExperimentError: it saw some, and was not marked as transductive.
    """
    if initial.seen is None:
        return ()
    table, seen = prepared.table, initial.seen.files
    judged = [row for name in JUDGED_SETS for row in prepared.split.indices[name]]
    known = [row for row in judged if file_sha256(table.records[row].file) in seen]
    if not known:
        return ()
    _refuse_seen_assurance(prepared, initial, set(known))
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
            f"{initial.told}: was pre-trained on {len(leaked)} images that are now "
            f"for validation, assurance or test ({names}, …): give the same --group, "
            "--split-column, data.assurance_share and data.split_seed to both runs, or pre-train "
            "with --transductive, which marks the report"
        )
    return (
        f"{len(known)} images that this run is judged on are copies, byte for byte, of training "
        "images",
    )
