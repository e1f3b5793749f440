"""A study's file: which methods, settings, seeds and shares of the labels are held side by side."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, cast

import msgspec

from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import Count, Table

TRIVIAL: Final = "trivial"
"""Name of the piece that every study has: the mean predictor and the hand-made baseline."""

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_Raw = dict[str, object]
_Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_LabelShare = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]


class Synthetic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Joints as `lineside dataset joints` computes them, made where no folder is given."""

    parts: Count
    seed: int = 7
    size_px: Count = 64


class DataSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder of images under a name.

    Attributes:
        folder: relative to the study's file; "" where only `--data` names it.
        group: column that names the physical part.
        split_column: column that names the fold.
        synthetic: what is computed where no folder is given.
    """

    folder: str = ""
    group: str = ""
    split_column: str = ""
    synthetic: Synthetic | None = None


class TuningSections(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `experiment.toml` that count for tuning."""

    data: _Raw = {}
    model: _Raw = {}
    train: _Raw = {}
    run: _Raw = {}

    def tuning(self) -> Table:
        """As `experiment.toml` nests them."""
        return _as_table(data=self.data, model=self.model, train=self.train, run=self.run)


class Common(TuningSections, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of every piece, unless it says otherwise."""

    pretrain: _Raw = {}

    def pretraining(self) -> Table:
        """As `experiment.toml` nests them."""
        return _as_table(data=self.data, model=self.model, pretrain=self.pretrain, run=self.run)


class Pretraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pre-training that rows start from.

    Attributes:
        name: that rows know it by.
        arch: short for `model.arch`.
        data_set: another than the study's: a start from a foreign domain.
    """

    name: str
    arch: str = ""
    data_set: str = ""
    data: _Raw = {}
    model: _Raw = {}
    pretrain: _Raw = {}
    run: _Raw = {}

    def settings(self) -> Table:
        """As `experiment.toml` nests them."""
        model = {**self.model, **({"arch": self.arch} if self.arch else {})}
        return _as_table(data=self.data, model=model, pretrain=self.pretrain, run=self.run)


class RowSettings(TuningSections, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the table.

    Attributes:
        name: of its folder.
        label: what the table calls it; "" is the name.
        arch: short for `model.arch`.
        init: name of a pre-training; "" starts from noise.
        weights: file of weights to start from instead; the row is missing where the file is.
        label_shares: the shares it is run at; unset are the study's.
        at_share: settings at one share of the labels, e.g. `at_share."0.1".train.fit.epochs`.
    """

    name: str
    label: str = ""
    arch: str = ""
    init: str = ""
    weights: str = ""
    label_shares: tuple[_LabelShare, ...] | None = None
    at_share: dict[str, TuningSections] = {}

    @property
    def shown(self) -> str:
        """What the table calls it."""
        return self.label or self.name

    def settings(self) -> Table:
        """As `experiment.toml` nests them."""
        table = self.tuning()
        if not self.arch:
            return table
        return {**table, "model": {**cast(Table, table.get("model", {})), "arch": self.arch}}


class StudyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        title: heading of the table.
        about: what a reader must know to judge it; stands under the heading.
        data_set: name of the one that rows learn.
        data_sets: by name.
        seeds: of every draw but the split.
        split_seeds: paired with `seeds`; empty leaves one split to all.
        label_shares: shares of the training labels.
        reference: name of the row that others are compared with, image by image.
        common: settings of every piece.
        at_share: settings at one share of the labels.
        pretraining: what rows start from.
        row: the table's lines.
    """

    title: str
    data_set: str
    data_sets: dict[str, DataSet]
    row: tuple[RowSettings, ...]
    about: str = ""
    seeds: tuple[_Seed, ...] = (0,)
    split_seeds: tuple[_Seed, ...] = ()
    label_shares: tuple[_LabelShare, ...] = (1.0,)
    reference: str = ""
    common: Common = Common()
    at_share: dict[str, TuningSections] = {}
    pretraining: tuple[Pretraining, ...] = ()


def read_study(path: Path) -> StudyFile:
    """Read and check what can be checked without any image.

    Raises:
        ExperimentError: unreadable, not TOML, an unknown key, a name unknown or there twice.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not TOML: {error}") from error
    try:
        study = msgspec.convert(table, StudyFile)
    except msgspec.ValidationError as error:
        raise ExperimentError(f"{path}: {error}") from error
    fault = _first_fault(study)
    if fault:
        raise ExperimentError(f"{path}: {fault}")
    return study


def share_key(share: float) -> str:
    """A share as keys and folders spell it."""
    return f"{share:g}"


def _first_fault(study: StudyFile) -> str:
    pretrainings, rows = [p.name for p in study.pretraining], [r.name for r in study.row]
    if not rows:
        return "row: a study needs one [[row]] at least"
    names = [*pretrainings, *rows, *study.data_sets]
    for name in names:
        if not _NAME.fullmatch(name):
            return f"{name!r} is no name for a folder: letters, digits, dot, dash and underscore"
    for kind, given in (("pretraining", pretrainings), ("row", rows), ("seeds", study.seeds)):
        twice = [name for name in given if list(given).count(name) > 1]
        if twice:
            return f"{kind}: {twice[0]} is there twice"
    if TRIVIAL in rows:
        return f"row: the name {TRIVIAL!r} is taken by the mean predictor and hand-made baseline"
    if not study.seeds or not study.label_shares:
        return "seeds and label_shares: one of each at least"
    if study.split_seeds and len(study.split_seeds) != len(study.seeds):
        return f"split_seeds: {len(study.split_seeds)} for {len(study.seeds)} seeds; give one each"
    return _unknown_name(study, pretrainings, rows)


def _unknown_name(study: StudyFile, pretrainings: list[str], rows: list[str]) -> str:
    asked = [("data_set", study.data_set, list(study.data_sets))]
    for one in study.pretraining:
        if one.data_set:
            asked.append((f"pretraining {one.name}: data_set", one.data_set, [*study.data_sets]))
    for row in study.row:
        if row.init and row.weights:
            return f"row {row.name}: init and weights: a row starts from one of them"
        if row.init:
            asked.append((f"row {row.name}: init", row.init, pretrainings))
    if study.reference:
        asked.append(("reference", study.reference, rows))
    for where, name, known in asked:
        if name not in known:
            return f"{where}: {name!r} is unknown; there are {', '.join(known) or 'none'}"
    return _unknown_share(study)


def _unknown_share(study: StudyFile) -> str:
    known = {share_key(share) for share in study.label_shares}
    for row in study.row:
        known |= {share_key(share) for share in row.label_shares or ()}
    for where, given in _shares_named(study):
        for key in given:
            if key not in known:
                return f"{where}: {key!r} is none of the label shares {', '.join(sorted(known))}"
    return ""


def _shares_named(study: StudyFile) -> Sequence[tuple[str, Mapping[str, object]]]:
    rows = [(f"row {row.name}: at_share", row.at_share) for row in study.row]
    return [("at_share", study.at_share), *rows]


def _as_table(**sections: Mapping[str, object]) -> Table:
    return {name: cast(Table, section) for name, section in sections.items() if section}
