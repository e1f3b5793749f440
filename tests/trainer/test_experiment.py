"""experiment.toml: every setting, no unknown one, and the same after writing and reading."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineside_trainer.data import Augmentation
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment import (
    DataSettings,
    Experiment,
    FitSettings,
    MaeSettings,
    PretrainSettings,
    RunSettings,
    Table,
    TrainSettings,
)
from lineside_trainer.experiment_file import (
    encode_experiment,
    first_difference,
    read_experiment,
)

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
experiments = st.builds(
    Experiment,
    data=st.builds(
        DataSettings,
        group=texts,
        image_size_hw=st.tuples(st.integers(1, 999), st.integers(1, 999)),
        strict=st.booleans(),
    ),
    pretrain=st.builds(
        PretrainSettings,
        method=texts,
        fit=st.builds(FitSettings, epochs=st.integers(1, 9), lr=st.floats(1e-9, 1.0)),
        augment=st.builds(Augmentation, crop_px=st.integers(0, 9)),
        mae=st.builds(MaeSettings, mask_ratio=st.floats(0.01, 0.99)),
    ),
    train=st.builds(
        TrainSettings, target=texts, limit=st.none() | st.floats(-1e6, 1e6), unit=texts
    ),
    run=st.builds(RunSettings, seed=st.integers(0, 2**31 - 1)),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


@given(experiment=experiments)
@example(experiment=Experiment(train=TrainSettings(unit="\x7f", target='"\\\n\u2028')))
def test_what_is_written_is_read_back(
    experiment: Experiment, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("e"), encode_experiment(experiment))
    assert read_experiment(path, {}) == experiment


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[train]\nepoch = 3", r"train\.epoch: unknown setting"),
        ("[pretrain.mae]\nmask = 0.5", r"pretrain\.mae\.mask: unknown setting"),
        ("[train.augment]\nflips = true", r"train\.augment\.flips: unknown setting"),
        ("seed = 3", r"seed: unknown setting"),
        ("[train.fit]\nepochs = 0", r"train\.fit\.epochs: .*>= 1"),
        ("[train.fit]\nlr = 'high'", r"train\.fit\.lr: Expected `float`"),
        ("[pretrain.mae]\nmask_ratio = 1.0", r"pretrain\.mae\.mask_ratio: .*< 1\.0"),
        ("[run]\ndevice = 'tpu'", r"run\.device: Invalid enum value 'tpu'"),
        ("[train.augment]\ncrop_px = -1", r"train\.augment: crop_px -1"),
        ("[train", "not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(text: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=where) as caught:
        read_experiment(write(tmp_path, text), {})
    assert "experiment.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="No such file"):
        read_experiment(tmp_path / "none.toml", {})


def test_options_win_over_the_file_and_the_file_over_what_is_handed_on(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[train]\ninit = "pre"\n[train.fit]\nlr = 0.5\nepochs = 7\n[model]\npatch_px = 4\n',
    )
    handed_on = {"model": {"patch_px": 16, "arch": "vit_small"}, "train": {"fit": {"epochs": 1}}}
    experiment = read_experiment(path, {"train": {"fit": {"lr": 0.25}}}, lambda _: handed_on)
    fit = experiment.train.fit
    assert (fit.lr, fit.epochs, fit.layer_decay) == (0.25, 7, TrainSettings().fit.layer_decay)
    assert (experiment.model.patch_px, experiment.model.arch) == (4, "vit_small")


def test_folders_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    path = write(tmp_path, '[data]\nfolder = "images"\n[train]\ninit = "../pre"\n')
    experiment = read_experiment(path, {})
    assert experiment.data.folder == str((tmp_path / "images").resolve())
    assert experiment.train.init == str((tmp_path / "../pre").resolve())
    elsewhere = read_experiment(path, {"data": {"folder": "/other"}})
    assert elsewhere.data.folder == "/other"


def test_the_first_difference_is_named() -> None:
    ours = Experiment()
    theirs = msgspec.structs.replace(ours, train=TrainSettings(limit=0.2))
    assert first_difference(ours, ours) == ""
    assert first_difference(ours, theirs) == first_difference(theirs, ours) == "train.limit"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, 1.0),
        ({"train": {"init": ""}, "model": {"weights": "", "download": False}}, 1.0),
        ({"train": {"init": "runs/pre"}}, 0.75),
        ({"train": {"slim": {"run": "runs/wide"}}}, 0.75),
        ({"model": {"weights": "vit.pth"}}, 0.75),
        ({"model": {"download": True}}, 0.75),
        ({"train": {"fit": {"layer_decay": 0.6}}}, 0.6),
    ],
)
def test_layers_are_held_back_only_where_they_have_something_to_keep(
    told: Table, expected: float
) -> None:
    assert read_experiment(None, told).train.fit.layer_decay == expected
