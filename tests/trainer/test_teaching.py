"""Runs that build on finished runs: taught by one, or cut from one; as people use them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from bright_plates import write_plates
from command_line import call, refuse, succeed

from lineside.bundle import write_key_pair
from lineside.candidate import PROGRAM, PROVENANCE
from lineside_trainer.durable import read_weights, write_tensors
from lineside_trainer.errors import ExperimentError
from lineside_trainer.evaluate.judgement import predict
from lineside_trainer.experiment_file import (
    read_experiment,
)
from lineside_trainer.prepared import prepare_data
from lineside_trainer.runs.predictions import read_predictions
from lineside_trainer.runs.runfolder import file_sha256
from lineside_trainer.runs.trained import keep_identity, read_trained
from lineside_trainer.tasks import headed

PARTS, UNLABELLED = 60, 4
CPU = ("--device", "cpu", "--batch-size", "16")
STUDENT = ("--arch", "test_resnet", "--epochs", "1", *CPU)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a part; the target is their brightness, unknown for the first parts."""
    return write_plates(
        tmp_path_factory.mktemp("images"),
        size_hw=(32, 32),
        parts=PARTS,
        unlabelled=range(UNLABELLED),
    )


@pytest.fixture(scope="module")
def big(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a ViT-Ti: teacher, and what is slimmed."""
    out = tmp_path_factory.mktemp("runs") / "big"
    succeed(
        *("train", "--data", images, "--group", "part", "--target", "damage", "--out", out),
        *("--image-size", "32", "--epochs", "4", "--lr", "3e-4", "--limit", "1.1", *CPU),
    )
    return out


@pytest.fixture(scope="module")
def taught(images: Path, big: Path) -> Path:
    out = big.parent / "taught"
    succeed("train", "--data", images, "--teacher", big, "--out", out, *STUDENT)
    return out


@pytest.fixture(scope="module")
def slimmed(big: Path) -> Path:
    out = big.parent / "slimmed"
    succeed("slim", big, "--heads", "2", "--mlp", "0.5", "--teacher", big, "--out", out, *CPU)
    return out


def test_a_taught_run_says_by_whom(taught: Path, big: Path) -> None:
    result = json.loads((taught / "result.json").read_text())
    digest = file_sha256(big / "best.pt")
    before = json.loads((big / "result.json").read_text())
    assert result["teacher"] == {
        "run": str(big),
        "sha256": digest,
        "arch": "vit_tiny",
        "parameters": before["run"]["parameters"],
        "metric": "mse",
        "test": before["test"]["mse"]["value"],
    }
    assert json.loads((taught / "teacher.json").read_text()) == result["teacher"]
    assert digest[:16] in (taught / "report.html").read_text()
    provenance = json.loads((taught / "candidate" / PROVENANCE).read_text())
    assert (provenance["teacher"], provenance["teacher_sha256"]) == ("big", digest)


def test_a_taught_run_takes_over_split_size_and_target(taught: Path, big: Path) -> None:
    ours, theirs = (read_experiment(run / "experiment.toml", {}) for run in (taught, big))
    assert (ours.train.target, ours.train.unit) == (theirs.train.target, theirs.train.unit)
    assert (ours.model.arch, ours.train.limit) == ("test_resnet", None)
    assert ours.data == theirs.data
    assert (taught / "split.json").read_bytes() == (big / "split.json").read_bytes()


def test_unlabelled_training_images_are_learnt_from(taught: Path) -> None:
    counts = json.loads((taught / "result.json").read_text())["run"]["counts"]
    split = json.loads((taught / "split.json").read_text())["files"]["training"]
    nameless = [file for file in split if int(file.split("_")[0]) < UNLABELLED]
    assert counts["taught without a label"] == len(nameless) > 0
    assert counts["training"] == len(split) - len(nameless)


def test_neither_adaptor_nor_teacher_is_handed_over(taught: Path) -> None:
    trained = read_trained(taught, "test")
    network = headed(trained.task())
    program = torch.export.load(taught / "candidate" / PROGRAM)
    ours, theirs = dict(network.named_parameters()), dict(program.named_parameters())
    assert {name: p.shape for name, p in ours.items()} == {n: p.shape for n, p in theirs.items()}
    assert all(torch.equal(p, theirs[name]) for name, p in ours.items())
    assert not any("adaptor" in name for name in read_weights(taught / "best.pt"))


@pytest.mark.parametrize("name", ["big", "taught", "slimmed"])
def test_a_finished_run_read_back_says_what_it_said(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(name)
    trained = read_trained(run, "test")
    prepared = prepare_data(trained.experiment, target="damage", folder=tmp_path)
    rows = prepared.labelled("test")
    found = predict(trained.task().network, prepared.store.rows(torch.from_numpy(rows)))
    said = [float(p.said.predicted) for p in read_predictions(run / "predictions.csv")]
    # Attention here is torch's fused kernel, there it was written out: 1e-6 measured.
    assert found.tolist() == pytest.approx(said[-len(rows) :], abs=1e-4)


def test_who_learnt_from_what_is_judged_on_is_no_teacher(images: Path, big: Path) -> None:
    base = ("train", "--data", images, "--teacher", big, *STUDENT)
    out = big.parent / "leak"
    message = refuse(ExperimentError, *base, "--split-seed", "5", "--out", out)
    assert message.startswith(f"train.teacher.run: {big} learnt from, or was chosen on")
    assert not out.exists()


def test_renaming_hides_nothing_from_the_check(images: Path, big: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(images, renamed)
    lines = (renamed / "labels.csv").read_text().splitlines()
    for line in lines[1:]:
        name = line.split(",")[0]
        (renamed / name).rename(renamed / f"a{name}")
    (renamed / "labels.csv").write_text("\n".join([lines[0], *(f"a{line}" for line in lines[1:])]))
    base = ("train", "--data", renamed, "--teacher", big, "--group", "part", *STUDENT)
    message = refuse(ExperimentError, *base, "--split-seed", "5", "--out", tmp_path / "out")
    assert "learnt from, or was chosen on" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--image-size", "64"), "takes images of 32x32 px .* with 1 channel"),
        (("--target", "brightness"), "give both the same --task, --target and --unit"),
        (("--unit", "mm"), "give both the same --task, --target and --unit"),
        (("--probe",), "has no meaning with train.probe"),
    ],
)
def test_a_teacher_of_something_else_is_refused_before_training(
    options: tuple[str, ...], words: str, images: Path, big: Path
) -> None:
    out = big.parent / "refused"
    base = ("train", "--data", images, "--teacher", big, *STUDENT, "--out", out)
    with pytest.raises(ExperimentError, match=words):
        raise ExperimentError(refuse(ExperimentError, *base, *options))
    assert not out.exists()


def test_a_teacher_without_weight_is_refused(images: Path, big: Path, tmp_path: Path) -> None:
    config = tmp_path / "experiment.toml"
    config.write_text("[train.teacher]\nprediction = 0.0\nfeature = 0.0\n")
    base = ("train", "--data", images, "--teacher", big, "--config", config, *STUDENT)
    assert "both are 0" in refuse(ExperimentError, *base, "--out", tmp_path / "out")


def test_what_is_no_finished_run_teaches_nobody(images: Path, tmp_path: Path) -> None:
    base = ("train", "--data", images, "--target", "damage", *STUDENT, "--out", tmp_path / "out")
    assert "is no run" in refuse(ExperimentError, *base, "--teacher", tmp_path / "nothing")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "experiment.toml").write_text("")
    message = refuse(ExperimentError, *base, "--teacher", tmp_path / "half")
    assert "no finished run (result.json is missing)" in message


def test_a_teacher_that_changed_meanwhile_is_named(big: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(big, copy)
    keep_identity(tmp_path / "teacher.json", read_trained(copy, "x"), "x")
    keep_identity(tmp_path / "teacher.json", read_trained(copy, "x"), "x")
    write_tensors(copy / "best.pt", {"weights": read_weights(copy / "best.pt"), "epoch": 9})
    with pytest.raises(ExperimentError, match=r"weights of .* have changed since"):
        keep_identity(tmp_path / "teacher.json", read_trained(copy, "x"), "x")


def test_a_slimmed_run_is_a_smaller_network_of_the_same_kind(slimmed: Path, big: Path) -> None:
    ours, theirs = (read_experiment(run / "experiment.toml", {}) for run in (slimmed, big))
    assert (ours.model.heads, ours.model.mlp_share) == (2, 0.5)
    assert ours.data == theirs.data
    assert (ours.train.fit.epochs, ours.train.fit.lr) == (1, pytest.approx(6e-5))
    assert (ours.train.target, ours.train.limit) == ("damage", 1.1)
    result = json.loads((slimmed / "result.json").read_text())
    assert result["slimmed_from"]["sha256"] == file_sha256(big / "best.pt")
    assert result["run"]["parameters"] < 0.65 * result["slimmed_from"]["parameters"]


def test_a_slimmed_candidate_exports_to_int8_and_inspects(
    slimmed: Path, images: Path, tmp_path: Path
) -> None:
    key, trust = write_key_pair(tmp_path, "factory")
    bundle = tmp_path / "slim.lsb"
    succeed(
        *("export", slimmed / "candidate", "--out", bundle, "--key", key, "--precision", "int8"),
        *("--max-flips", "5", "--max-drop", "1.0"),
    )
    table = json.loads(
        call("inspect", bundle, images / "9_0.png", "--trust", trust, "--json").stdout
    )
    assert len(table["verdicts"] if isinstance(table, dict) else table) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give --heads, --mlp or both"),
        (("--heads", "4"), "model.heads: 4 are asked for, and vit_tiny has 3"),
        (("--heads", "2", "--arch", "vit_small"), "leave --arch away"),
        (("--heads", "2", "--patch", "4"), "holds another network"),
    ],
)
def test_what_cannot_be_slimmed_so_is_refused(
    options: tuple[str, ...], words: str, big: Path
) -> None:
    out = big.parent / "refused"
    assert words in refuse(ExperimentError, "slim", big, *options, *CPU, "--out", out)
    assert not out.exists()
