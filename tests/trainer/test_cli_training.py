"""`lineside pretrain` and `lineside train` as people use them, on a folder of small images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bright_plates import write_plates
from command_line import call, refuse, succeed

from lineside.candidate import CONTRACT, PROGRAM, PROVENANCE, SAMPLES, read_samples
from lineside.contract import RegressionHead, decode_contract
from lineside.errors import LinesideError
from lineside_trainer.errors import DataError, ExperimentError, TrainerError
from lineside_trainer.runs.predictions import PREDICTIONS, read_predictions

PARTS = 30
SMALL = ("--image-size", "16", "--patch", "8", "--batch-size", "16", "--device", "cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a part; the target is their brightness, with a few faults in the folder."""
    folder = write_plates(
        tmp_path_factory.mktemp("images"), size_hw=(20, 24), parts=PARTS, unlabelled=[3]
    )
    (folder / "broken.png").write_bytes(b"no image")
    with (folder / "labels.csv").open("a", newline="") as file:
        csv.writer(file).writerows(
            [[name, "part99", 1.0, 100.0] for name in ("broken.png", "gone.png")]
        )
    return folder


@pytest.fixture(scope="module")
def pre(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pre"
    succeed("pretrain", "--data", images, "--group", "part", "--out", out, "--epochs", "2", *SMALL)
    return out


@pytest.fixture(scope="module")
def tuned(images: Path, pre: Path) -> tuple[Path, dict[str, object]]:
    out = pre.parent / "joint"
    result = succeed(
        *("train", "--data", images, "--target", "damage", "--init", pre, "--out", out),
        *("--epochs", "3", "--batch-size", "16", "--limit", "1.5", "--unit", "mm", "--json"),
    )
    return out, json.loads(result.stdout)


def test_pretraining_leaves_what_it_should(pre: Path) -> None:
    names = {path.relative_to(pre).as_posix() for path in pre.rglob("*") if path.is_file()}
    assert names == {
        *("experiment.toml", "split.json", "seen.json", "result.json", "metrics.csv"),
        *("best.pt", "last.ckpt", "backbone.pt", "report.html"),
        *("figures/curves.png", "figures/examples.png"),
    }
    result = json.loads((pre / "result.json").read_text())
    assert set(result["run"]["rejected"]) == {"broken.png", "gone.png"}
    assert result["run"]["transductive"] is False
    split = json.loads((pre / "split.json").read_text())["files"]
    seen = set(json.loads((pre / "seen.json").read_text())["files"].values())
    assert seen == {*split["training"], *split["quantisation"]}
    rows = list(csv.DictReader((pre / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]


def test_of_many_useless_files_twenty_are_told_and_all_reported(
    images: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(images, data)
    for number in range(30):
        (data / f"loose_{number}.png").write_bytes(b"no image")
    out = tmp_path / "run"
    told = succeed("pretrain", "--data", data, "--out", out, "--epochs", "1", *SMALL).stderr
    lines = [line for line in told.splitlines() if line.startswith("not used: ")]
    assert len(lines) == 21
    assert lines[-1] == "not used: 12 more; report.html names all"
    # Before the hours of training that such a fault may waste.
    assert told.index(lines[-1]) < told.index("epoch 1/1")
    report = (out / "report.html").read_text()
    assert all(f"loose_{number}.png" in report for number in range(30))


def test_tuning_takes_over_network_and_split(
    tuned: tuple[Path, dict[str, object]], pre: Path
) -> None:
    out, _ = tuned
    ours = json.loads((out / "split.json").read_text())["files"]
    assert ours == json.loads((pre / "split.json").read_text())["files"]


def test_the_result_says_what_is_promised(tuned: tuple[Path, dict[str, object]]) -> None:
    out, said = tuned
    saved = json.loads((out / "result.json").read_text())
    assert said == {"out": str(out), **saved}
    assert (saved["metric"], saved["lower_is_better"], saved["judged_by"]) == ("mse", True, "MSE")
    assert list(saved["test"]) == list(saved["baseline"]) == ["mse", "mae"]
    mse = saved["test"]["mse"]
    assert mse["low"] <= mse["value"] <= mse["high"]
    assert mse["confidence"] == 0.95
    assert mse["drawn_by"] == "image"  # 6 parts in the test fold
    assert len(saved["test_by_part"]) == 6
    assert saved["baseline"]["mse"]["value"] > 0
    assert saved["baseline_name"] == "mean predictor"
    assert saved["unlabelled"] == 2
    run = saved["run"]
    assert set(run["rejected"]) == {"broken.png", "gone.png", "3_0.png", "3_1.png"}
    assert sum(run["counts"].values()) in range(56, 61)
    assert (run["seed"], run["epochs"], run["device"], run["precision"]) == (0, 3, "cpu", "fp32")
    assert len(run["data_sha256"]) == 64
    assert {"torch", "timm", "lightning", "lineside-trainer"} <= set(run["versions"])
    assert run["images_per_s"] > 0 < run["seconds"]


def test_every_prediction_can_be_looked_up(tuned: tuple[Path, dict[str, object]]) -> None:
    out, _ = tuned
    rows = read_predictions(out / PREDICTIONS)
    split = json.loads((out / "split.json").read_text())["files"]
    labelled = {name: [f for f in split[name] if f not in ("3_0.png", "3_1.png")] for name in split}
    for name in ("validation", "test"):
        assert [row.file for row in rows if row.set == name] == labelled[name]
    errors = [row.dispute**2 for row in rows if row.set == "test"]
    saved = json.loads((out / "result.json").read_text())
    assert np.mean(errors) == pytest.approx(saved["test"]["mse"]["value"], rel=1e-12)
    assert all(row.part.startswith("part") for row in rows)


def test_the_report_stands_alone(tuned: tuple[Path, dict[str, object]]) -> None:
    out, _ = tuned
    page = (out / "report.html").read_text()
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {
        *("predictions.png", "residuals.png", "curves.png", "maps.png"),
        *("pretraining_curves.png", "pretraining_examples.png"),
    }
    assert page.count("data:image/png;base64,") == len(figures)
    assert 'src="http' not in page
    for text in ("mean predictor", "broken.png", "gone.png", "[train.fit]", "data SHA-256"):
        assert text in page
    assert "Transductive" not in page


def test_the_candidate_is_whole(tuned: tuple[Path, dict[str, object]], images: Path) -> None:
    folder = tuned[0] / "candidate"
    assert {p.name for p in folder.iterdir()} == {PROGRAM, CONTRACT, SAMPLES, PROVENANCE}
    contract = decode_contract((folder / CONTRACT).read_bytes(), source="test")
    assert contract.frame.size_hw == (20, 24)
    assert contract.input.size_hw == (16, 16)
    assert contract.head == RegressionHead(output="value", target="damage")
    assert (contract.outputs[0].name, contract.outputs[0].unit) == ("value", "mm")
    assert contract.proposed_rule is not None
    assert contract.proposed_rule.not_ok_limit == 1.5
    assert contract.product == images.name
    samples = read_samples(folder / SAMPLES)
    assert set(samples) == {"quantisation", "validation", "golden"}
    assert all(len(s) and s.frames_hwc[0].shape == (20, 24, 1) for s in samples.values())


def test_a_folder_in_use_is_refused_and_a_finished_run_left_alone(
    tuned: tuple[Path, dict[str, object]], images: Path, pre: Path
) -> None:
    out, _ = tuned
    base = ("train", "--data", images, "--target", "damage", "--init", pre, "--out", out)
    assert "--resume" in refuse(ExperimentError, *base)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    succeed("train", "--out", out, "--resume")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    message = refuse(ExperimentError, "train", "--out", out, "--resume", "--lr", "0.5")
    assert "train.fit.lr" in message


def test_images_seen_in_pretraining_are_never_reported_on(images: Path, pre: Path) -> None:
    base = ("train", "--data", images, "--target", "damage", "--init", pre, "--epochs", "1")
    message = refuse(
        ExperimentError, *base, "--out", pre.parent / "leak", "--split-seed", "5", *SMALL
    )
    assert "pre-trained on" in message
    assert "--transductive" in message


def test_transductive_runs_are_marked_and_so_is_what_grows_from_them(
    images: Path, tmp_path: Path
) -> None:
    pre, out = tmp_path / "pre", tmp_path / "out"
    succeed(
        *("pretrain", "--data", images, "--out", pre, "--epochs", "1", "--transductive"), *SMALL
    )
    succeed(
        *("train", "--data", images, "--target", "damage", "--init", pre, "--out", out),
        *("--epochs", "1", "--batch-size", "16"),
    )
    for folder in (pre, out):
        run = json.loads((folder / "result.json").read_text())["run"]
        assert run["transductive"] is True
        assert any(note.startswith("TRANSDUCTIVE") for note in run["notes"])
        assert "<strong>Transductive:</strong>" in (folder / "report.html").read_text()
    message = refuse(
        ExperimentError,
        *("train", "--data", images, "--target", "damage", "--init", pre, "--epochs", "1"),
        *("--out", tmp_path / "promised", "--assurance-share", "0.2", "--batch-size", "16"),
    )
    assert "for assurance" in message
    assert "data.assurance_share" in message


def test_assurance_parts_go_into_the_candidate_and_the_share_is_handed_on(
    images: Path, tmp_path: Path
) -> None:
    pre, out, share = tmp_path / "pre", tmp_path / "out", ("--assurance-share", "0.2")
    succeed("pretrain", "--data", images, "--out", pre, "--epochs", "1", *share, *SMALL)
    succeed(
        *("train", "--data", images, "--target", "damage", "--init", pre, "--out", out),
        *("--epochs", "1", "--batch-size", "16"),
    )
    sets = read_samples(out / "candidate" / "samples.npz")
    kept = json.loads((out / "split.json").read_text())["files"]["assurance"]
    assert len(sets["assurance"]) == len(kept) > 0
    told = (out / "predictions.csv").read_text()
    assert not [name for name in kept if f"\n{name}," in told]
    assert json.loads((out / "result.json").read_text())["run"]["counts"]["assurance"] == len(kept)


def test_an_unfinished_run_is_no_start(images: Path, tmp_path: Path) -> None:
    base = ("train", "--data", images, "--target", "damage", "--out", tmp_path / "out")
    assert "no run" in refuse(ExperimentError, *base, "--init", tmp_path / "nothing", *SMALL)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "experiment.toml").write_text("")
    message = refuse(TrainerError, *base, "--init", tmp_path / "half", *SMALL)
    assert "finished" in message


def test_there_must_be_a_run_to_go_on_with(tmp_path: Path) -> None:
    for verb in ("pretrain", "train"):
        message = refuse(ExperimentError, verb, "--out", tmp_path / "none", "--resume")
        assert "holds no run to go on with" in message
    assert list(tmp_path.iterdir()) == []


def test_another_network_is_told_in_a_line(images: Path, pre: Path, tmp_path: Path) -> None:
    base = ("train", "--data", images, "--group", "part", "--target", "damage", "--init", pre)
    message = refuse(ExperimentError, *base, "--out", tmp_path / "x", "--arch", "vit_small", *SMALL)
    assert "vit_tiny on images of 16x16 px" in message
    assert "\n" not in message


def test_another_kind_of_run_is_no_start(
    tuned: tuple[Path, dict[str, object]], images: Path, tmp_path: Path
) -> None:
    base = ("train", "--data", images, "--target", "damage", "--out", tmp_path / "out")
    assert "is no pre-training" in refuse(ExperimentError, *base, "--init", tuned[0], *SMALL)


def test_what_fails_before_it_learns_leaves_its_folder_as_it_was(
    images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        base = ("train", "--data", images, "--epochs", "1", "--out", tmp_path / name, *SMALL)
        assert "'dammage'" in refuse(DataError, *base, "--target", "dammage")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_run_that_learnt_is_not_given_back(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = ("pretrain", "--data", images, "--out", out, "--epochs", "1", *SMALL)
    succeed(*base)
    (out / "result.json").unlink()
    (out / "best.pt").write_bytes(b"torn")
    refuse(TrainerError, "pretrain", "--out", out, "--resume")
    assert {"experiment.toml", "split.json", "last.ckpt", "best.pt"} <= {
        path.name for path in out.iterdir()
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--patch", "7"), "model.patch_px"),
        (("--mask-ratio", "0.1"), "mask_ratio"),
        (("--mask-ratio", "1"), "mask_ratio"),
        (("--arch", "vit_huge"), "vit_huge"),
        (("--method", "moco"), "moco"),
        (("--epochs", "0"), "pretrain.fit.epochs"),
        (("--lr", "inf"), "pretrain.fit.lr: inf is not finite"),
    ],
)
def test_impossible_settings_are_refused_before_training(
    options: tuple[str, str], words: str, images: Path, tmp_path: Path
) -> None:
    message = refuse(
        ExperimentError, "pretrain", "--data", images, "--out", tmp_path / "x", *SMALL, *options
    )
    assert words in message
    assert not (tmp_path / "x").exists()


def test_a_missing_target_is_asked_for(images: Path, tmp_path: Path) -> None:
    assert "--target" in refuse(
        ExperimentError, "train", "--data", images, "--out", tmp_path / "x", *SMALL
    )


def test_strict_refuses_the_faulty_folder(images: Path, tmp_path: Path) -> None:
    result = call("pretrain", "--data", images, "--out", tmp_path / "x", "--strict", *SMALL)
    assert isinstance(result.exception, LinesideError)
    assert "broken.png" in str(result.exception)
