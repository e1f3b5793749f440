"""`--seeds`: every seed a run of its own, a mean over all of them or none."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import msgspec
import pytest
from bright_plates import write_plates
from command_line import call, refuse, succeed
from hypothesis import given
from hypothesis import strategies as st

from lineside.errors import LinesideError
from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import DataSettings, Experiment, RunSettings
from lineside_trainer.seeds import members, spread

QUICK = ("--epochs", "1", "--batch-size", "8", "--device", "cpu")
SMALL = ("--image-size", "32", "--arch", "test_resnet", *QUICK)
SEEDS = ("--seeds", "2", "--split-seeds", "3,4")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plates(
        tmp_path_factory.mktemp("images"),
        size_hw=(32, 32),
        parts=60,
        views=1,
        levels=(40, 200),
        noise=30,
    )


@pytest.fixture(scope="module")
def pre(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training for each seed, each on its own split."""
    out = tmp_path_factory.mktemp("runs") / "pre"
    succeed("pretrain", "--data", images, "--out", out, "--method", "simsiam", *SEEDS, *SMALL)
    return out


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "joint"
    base = ("train", "--data", images, "--target", "damage", "--out", out, *SMALL, *SEEDS)
    succeed(*base, "--label-share", "0.5")
    return out


def test_the_mean_is_that_of_the_runs(runs: Path) -> None:
    found = json.loads((runs / "result.json").read_text())
    own = [json.loads((runs / f"seed{seed}" / "result.json").read_text()) for seed in (0, 1)]
    assert [run["run"]["seed"] for run in own] == [0, 1]
    assert [run["run"]["split_seed"] for run in own] == [3, 4]
    for name in ("mse", "mae"):
        values = [run["test"][name]["value"] for run in own]
        assert found["test"][name]["mean"] == pytest.approx(statistics.fmean(values))
        assert found["test"][name]["std"] == pytest.approx(statistics.stdev(values))
        assert found["test"][name]["least"] == min(values)
    judged = [run["run"]["validation"]["best"] for run in own]
    assert found["chosen_seed"] == judged.index(min(judged))
    assert any("different images" in note for note in found["notes"])
    assert any("label share 0.5" in note for note in own[0]["run"]["notes"])
    assert own[0]["run"]["counts"]["training"] == 16  # half of the 32 that are not quantisation's


def test_the_candidate_is_that_of_the_best_on_validation(runs: Path) -> None:
    found = json.loads((runs / "result.json").read_text())
    chosen = runs / f"seed{found['chosen_seed']}" / "candidate"
    ours = {path.name: path.read_bytes() for path in (runs / "candidate").iterdir()}
    assert ours == {path.name: path.read_bytes() for path in chosen.iterdir()}


def test_the_report_stands_alone(runs: Path) -> None:
    page = (runs / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    for words in ("Over 2 seeds", "standard deviation", "mean predictor", "[train.fit]", "offered"):
        assert words in page


def test_a_finished_one_is_left_alone(runs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    succeed("train", "--out", runs, "--resume")
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before
    assert "run.seeds" in refuse(
        ExperimentError, "train", "--out", runs, "--resume", "--seeds", "3"
    )


def test_a_seed_that_fails_is_named_and_resume_runs_it_alone(
    pre: Path, images: Path, tmp_path: Path
) -> None:
    """Each seed starts from its own pre-training; one of them is broken at first."""
    out, weights = tmp_path / "out", pre / "seed1" / "backbone.pt"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    base = ("train", "--data", images, "--target", "damage", "--init", pre, *QUICK)
    message = refuse(TrainerError, *base, "--out", out, "--seeds", "2")
    assert "1 of 2 seeds failed" in message
    assert "seed1: " in message
    assert not (out / "result.json").exists()
    weights.write_bytes(content)
    done = (out / "seed0" / "result.json").stat().st_mtime_ns
    succeed("train", "--out", out, "--resume")
    assert (out / "seed0" / "result.json").stat().st_mtime_ns == done
    found = json.loads((out / "result.json").read_text())
    assert [run["split_seed"] for run in found["runs"]] == [3, 4], "as the pre-trainings had it"
    assert found["init"] == str(pre)
    own = json.loads((out / "seed1" / "result.json").read_text())
    assert own["init"] == str(pre / "seed1")


def test_what_every_seed_would_fail_by_leaves_nothing(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = ("train", "--data", images, "--target", "dammage", "--out", out, *SMALL, *SEEDS)
    assert "'dammage'" in refuse(LinesideError, *base)
    assert not out.exists()


def test_split_seeds_must_be_one_a_seed(images: Path, tmp_path: Path) -> None:
    base = ("train", "--data", images, "--target", "damage", "--out", tmp_path / "x", *SMALL)
    for options in (("--seeds", "3", "--split-seeds", "1,2"), ("--split-seeds", "1,2")):
        assert "data.split_seeds: 2 for" in refuse(ExperimentError, *base, *options)
    column = ("--seeds", "2", "--split-seeds", "1,2", "--split-column", "fold")
    assert "column 'fold'" in refuse(ExperimentError, *base, *column)
    wrong = call(*base, "--seeds", "2", "--split-seeds", "1;2")
    assert wrong.exit_code == 2
    assert not (tmp_path / "x").exists()


@given(seed=st.integers(0, 1000), seeds=st.integers(1, 20), split=st.integers(0, 9))
def test_members_differ_in_their_seeds_alone(seed: int, seeds: int, split: int) -> None:
    experiment = Experiment(
        data=DataSettings(folder="x", split_seed=split), run=RunSettings(seed=seed, seeds=seeds)
    )
    told = members(experiment)
    assert [member.experiment.run.seed for member in told] == list(range(seed, seed + seeds))
    for member in told:
        assert member.experiment.data.split_seed == split
        run = msgspec.structs.replace(member.experiment.run, seed=seed, seeds=seeds)
        assert msgspec.structs.replace(member.experiment, run=run) == experiment


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9))
def test_a_spread_holds_its_values(values: list[float]) -> None:
    found = spread(values)
    assert found.least <= found.mean + 1e-9
    assert found.mean <= found.most + 1e-9
    assert (found.std is None) is (len(values) == 1)
    assert found.runs == len(values)
