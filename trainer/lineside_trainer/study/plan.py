"""From a study's file to its pieces: an experiment, a folder and what must be done before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Experiment, FitSettings, Table
from lineside_trainer.experiment_file import (
    convert_experiment,
    merge_tables,
)
from lineside_trainer.study.file import (
    TRIVIAL,
    DataSet,
    Pretraining,
    RowSettings,
    StudyFile,
    read_study,
    share_key,
)

Kind = Literal["pretrain", "train", "trivial"]

_ROOMS: Final[dict[Kind, str]] = {"pretrain": "pretrain", "train": "rows", "trivial": TRIVIAL}

_MADE: Final = {
    ("data", "folder"): "data_sets.NAME.folder",
    ("data", "group"): "data_sets.NAME.group",
    ("data", "split_column"): "data_sets.NAME.split_column",
    ("data", "split_seeds"): "split_seeds",
    ("run", "seed"): "seeds",
    ("run", "seeds"): "seeds",
    ("train", "init"): "init",
    ("train", "label_share"): "label_shares",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says.

    Attributes:
        file: of the study.
        out: folder of all its pieces.
        data: folders by name of the data set.
        weights: folder where the weight files that rows name lie; None is beside the file.
        epochs_factor: all epochs times this, one at least.
    """

    file: Path
    out: Path
    data: Mapping[str, Path]
    weights: Path | None = None
    epochs_factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of its own.

    Attributes:
        kind: which verb does it; `trivial` is done here.
        name: of the pre-training or row.
        seed: of every draw but the split.
        label_share: share of the training labels; 1 for a pre-training.
        experiment: all settings.
        folder: of the run.
        needs: folder of the pre-training it starts from.
        data_set: name of the images.
        missing: what is not there, so that it cannot be done; "" where all is.
    """

    kind: Kind
    name: str
    seed: int
    label_share: float
    experiment: Experiment
    folder: Path
    needs: Path | None = None
    data_set: str
    missing: str = ""

    @property
    def id(self) -> str:
        """Its folder below the study's."""
        return "/".join(self.folder.parts[-4 if self.kind == "train" else -3 :])

    @property
    def epochs(self) -> int:
        """Passes over its training images."""
        if self.kind == "trivial":
            return 1
        experiment = self.experiment
        fit = experiment.pretrain.fit if self.kind == "pretrain" else experiment.train.fit
        return fit.epochs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a study does, pre-trainings first.

    Attributes:
        study: the file.
        asked: the command line.
        pieces: in an order that can be followed.
    """

    study: StudyFile
    asked: Asked
    pieces: tuple[Piece, ...]

    def chosen(self, only: Sequence[str], seeds: Sequence[int]) -> tuple[Piece, ...]:
        """Pieces of these rows and seeds, with the pre-trainings they need; empty is all.

        Raises:
            ExperimentError: a name or seed that the study does not have.
        """
        file = self.asked.file
        for name in only:
            known = dict.fromkeys(piece.name for piece in self.pieces)
            if name not in known:
                raise ExperimentError(f"{file}: --only {name}: there are {', '.join(known)}")
        for seed in seeds:
            if seed not in self.study.seeds:
                told = ", ".join(map(str, self.study.seeds))
                raise ExperimentError(f"{file}: --seeds {seed}: the file has {told}")
        picked = [
            piece
            for piece in self.pieces
            if (not only or piece.name in only) and (not seeds or piece.seed in seeds)
        ]
        needed = {piece.needs for piece in picked} | {piece.folder for piece in picked}
        return tuple(piece for piece in self.pieces if piece.folder in needed)


def make_plan(asked: Asked) -> Plan:
    """Read the file and lay out every piece.

    Raises:
        ExperimentError: a setting that is unknown or cannot be, with file, piece and path.
    """
    study = read_study(asked.file)
    unknown = [name for name in asked.data if name not in study.data_sets]
    if unknown:
        raise ExperimentError(
            f"--data {unknown[0]}=…: {asked.file} has {', '.join(study.data_sets)}"
        )
    _check_sections(study, asked.file)
    maker = _Maker(study, asked)
    pieces = [
        maker.pretraining(one, number)
        for one in study.pretraining
        for number in range(len(study.seeds))
    ]
    # Trivial pieces take seconds: the lines that others are held against stand first.
    for share in maker.shares():
        pieces += [maker.trivial(number, share) for number in range(len(study.seeds))]
    for row in study.row:
        for share in row.label_shares or study.label_shares:
            pieces += [maker.row(row, number, share) for number in range(len(study.seeds))]
    return Plan(study=study, asked=asked, pieces=tuple(pieces))


def _check_sections(study: StudyFile, file: Path) -> None:
    """Settings that the study makes itself, and those of `common` that no piece may read."""
    common: Table = {**study.common.tuning(), **study.common.pretraining()}
    convert_experiment(common, source=f"{file}: common")
    sections = [("common", common)]
    sections += [(f"at_share {share}", one.tuning()) for share, one in study.at_share.items()]
    sections += [(f"pretraining {one.name}", one.settings()) for one in study.pretraining]
    for row in study.row:
        sections.append((f"row {row.name}", row.settings()))
        sections += [(f"row {row.name}", one.tuning()) for one in row.at_share.values()]
    for where, table in sections:
        for (section, key), instead in _MADE.items():
            settings = table.get(section, {})
            if isinstance(settings, Mapping) and key in settings:
                raise ExperimentError(f"{file}: {where}: {section}.{key}: say {instead} instead")


class _Maker:
    """Lays settings over settings; the later ones win."""

    def __init__(self, study: StudyFile, asked: Asked) -> None:
        self._study = study
        self._asked = asked
        self._out = asked.out.resolve()

    def shares(self) -> list[float]:
        """Every share of the labels that a row is run at."""
        given = list(self._study.label_shares)
        for row in self._study.row:
            given += row.label_shares or ()
        return list(dict.fromkeys(given))

    def pretraining(self, one: Pretraining, number: int) -> Piece:
        """For the seed of this number."""
        name = one.data_set or self._study.data_set
        layers = [
            self._study.common.pretraining(),
            self._data(name, number),
            one.settings(),
            {"run": {"seed": self._study.seeds[number]}},
        ]
        return self._piece(
            "pretrain", one.name, number, 1.0, layers, data_set=name, missing=self._absent(name)
        )

    def row(self, row: RowSettings, number: int, share: float) -> Piece:
        """At a share of the labels."""
        study, key = self._study, share_key(share)
        init = next((one for one in study.pretraining if one.name == row.init), None)
        before = self.pretraining(init, number) if init else None
        shared, own = study.at_share.get(key), row.at_share.get(key)
        weights = self._weights(row)
        layers = [
            study.common.tuning(),
            self._data(study.data_set, number),
            _handed_on(before) if before else {},
            shared.tuning() if shared else {},
            row.settings(),
            own.tuning() if own else {},
            {"train": {"init": str(before.folder)}} if before else {},
            {"model": {"weights": str(weights)}} if weights else {},
            *self._seed_and_share(number, share),
        ]
        missing = (before.missing if before else "") or self._absent(study.data_set)
        if weights and not weights.is_file():
            missing = f"no file {row.weights} beside the study, or in --weights FOLDER"
        return self._piece(
            "train",
            row.name,
            number,
            share,
            layers,
            data_set=study.data_set,
            missing=missing,
            needs=before.folder if before else None,
        )

    def trivial(self, number: int, share: float) -> Piece:
        """Mean predictor and hand-made baseline, on the split and labels that rows have."""
        common = self._study.common.tuning()
        train = common.get("train", {})
        assert isinstance(train, Mapping), "the file's structure says so"
        kept = {key: train[key] for key in ("task", "target", "good", "unit") if key in train}
        layers: list[Table] = [
            {"data": common.get("data", {}), "train": kept},
            self._data(self._study.data_set, number),
            *self._seed_and_share(number, share),
        ]
        name = self._study.data_set
        # Its network is never used, but must go with any image size.
        size_hw = self._experiment(layers, TRIVIAL).data.image_size_hw
        layers.append({"model": {"patch_px": math.gcd(*size_hw)}})
        return self._piece(
            "trivial", TRIVIAL, number, share, layers, data_set=name, missing=self._absent(name)
        )

    def _seed_and_share(self, number: int, share: float) -> list[Table]:
        seed: Table = {"run": {"seed": self._study.seeds[number]}}
        return [seed, {"train": {"label_share": share}}] if share != 1.0 else [seed]

    def _piece(
        self,
        kind: Kind,
        name: str,
        number: int,
        share: float,
        layers: Sequence[Table],
        *,
        data_set: str,
        missing: str,
        needs: Path | None = None,
    ) -> Piece:
        experiment = self._experiment(layers, name)
        if kind != "pretrain" and not experiment.train.target:
            told = f"{self._asked.file}: {name}"
            raise ExperimentError(f"{told}: train.target: nothing to learn is named")
        seed = self._study.seeds[number]
        room = self._out / _ROOMS[kind]
        if kind != "trivial":
            room = room / name
        if kind != "pretrain":
            room = room / f"share-{share_key(share)}"
        return Piece(
            kind=kind,
            name=name,
            seed=seed,
            label_share=share,
            experiment=experiment,
            folder=room / f"seed{seed}",
            needs=needs,
            data_set=data_set,
            missing=missing,
        )

    def _experiment(self, layers: Sequence[Table], name: str) -> Experiment:
        table: Table = {}
        for layer in layers:
            table = merge_tables(table, layer)
        experiment = convert_experiment(table, source=f"{self._asked.file}: {name}")
        return _scaled(experiment, self._asked.epochs_factor)

    def _data(self, name: str, number: int) -> Table:
        """Settings of a data set; the paired split is of the study's own alone."""
        one, study = self._study.data_sets[name], self._study
        settings: dict[str, str | int] = {
            "folder": str(self._folder(name, one)),
            "group": one.group,
            "split_column": one.split_column,
        }
        if study.split_seeds and name == study.data_set:
            settings["split_seed"] = study.split_seeds[number]
        return {"data": settings}

    def _folder(self, name: str, one: DataSet) -> Path:
        if name in self._asked.data:
            return self._asked.data[name].resolve()
        if one.folder:
            return (self._asked.file.parent / one.folder).resolve()
        return self._out / "data" / name

    def _absent(self, name: str) -> str:
        one = self._study.data_sets[name]
        folder = self._folder(name, one)
        computed = one.synthetic and not one.folder and name not in self._asked.data
        if computed or folder.is_dir():
            return ""
        return f"no images of {name}: give --data {name}=FOLDER"

    def _weights(self, row: RowSettings) -> Path | None:
        if not row.weights:
            return None
        return ((self._asked.weights or self._asked.file.parent) / row.weights).resolve()


def _handed_on(before: Piece) -> Table:
    """What tuning takes over from a pre-training: the network and what it looks at."""
    data, model = before.experiment.data, before.experiment.model
    names = ("arch", "patch_px", "heads", "mlp_share")
    return {
        "data": {"image_size_hw": list(data.image_size_hw), "channels": data.channels},
        "model": {name: getattr(model, name) for name in names},
    }


def _scaled(experiment: Experiment, factor: float) -> Experiment:
    if factor == 1.0:
        return experiment
    replace = msgspec.structs.replace
    pretrain, train = experiment.pretrain, experiment.train
    return replace(
        experiment,
        pretrain=replace(pretrain, fit=_shorter(pretrain.fit, factor)),
        train=replace(train, fit=_shorter(train.fit, factor)),
    )


def _shorter(fit: FitSettings, factor: float) -> FitSettings:
    return msgspec.structs.replace(fit, epochs=max(1, round(fit.epochs * factor)))
