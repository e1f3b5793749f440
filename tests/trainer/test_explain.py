"""`lineside explain` as people use it, on the runs of small trainings."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from lineside.cli.main import lineside
from lineside.errors import InputDataError, LinesideError
from lineside_trainer.errors import ExperimentError
from lineside_trainer.runs.predictions import PREDICTIONS, read_predictions
from lineside_trainer.telling.example_maps import choose_examples
from lineside_trainer.telling.explaining import picture_names

PARTS = 24
QUICK = ("--image-size", "16", "--patch", "4", "--epochs", "1", "--batch-size", "8")


def call(*words: object) -> tuple[BaseException | None, str]:
    result = CliRunner().invoke(lineside, [str(word) for word in words])
    return result.exception, result.stdout


def succeed(*words: object) -> str:
    error, output = call(*words)
    assert error is None, (error, output)
    return output


def refuse(kind: type[LinesideError], *words: object) -> str:
    error, output = call(*words)
    assert isinstance(error, kind), (error, output)
    return str(error)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray squares on noise; the last image has no label."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    rows = []
    for number in range(PARTS):
        pixels = generator.normal(60, 9, (20, 24))
        damage = number / PARTS
        pixels[4:10, 5:12] += 150 * damage
        name = f"{number:02}.png"
        assert cv2.imwrite(str(folder / name), pixels.clip(0, 255).astype(np.uint8))
        kind = ("good", "void", "crack")[number % 3]
        last = number == PARTS - 1
        rows.append((name, f"part{number}", "" if last else f"{damage:.5f}", kind))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "part", "damage", "kind"), *rows])
    return folder


@pytest.fixture(scope="module")
def regression(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "number"
    succeed("train", "--data", data, "--target", "damage", "--unit", "mm", "--out", out, *QUICK)
    return out


@pytest.fixture(scope="module")
def classification(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "class"
    task = ("--task", "classification", "--target", "kind", "--arch", "sam_cnn")
    succeed("train", "--data", data, *task, "--out", out, *QUICK)
    return out


@pytest.fixture(scope="module")
def explained(regression: Path, data: Path) -> list[dict[str, Any]]:
    found = json.loads(succeed("explain", regression, data, "--json"))
    assert (found["run"], found["method"]) == (str(regression), "hirescam")
    images: list[dict[str, Any]] = found["images"]
    return images


def test_each_image_of_a_folder_gets_its_picture(
    explained: list[dict[str, Any]], regression: Path, data: Path
) -> None:
    names = [f"{number:02}" for number in range(PARTS)]
    assert [one["image"] for one in explained] == [str(data / f"{n}.png") for n in names]
    folder = regression / "explain"
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.hirescam.png" for n in names]
    for one in explained:
        picture = cv2.imread(one["overlay"])
        assert picture is not None
        assert picture.shape[1] > 2 * picture.shape[0]  # three panels side by side
        assert one["explained"] == "damage, higher"


def test_it_says_what_the_run_said_and_what_is_true(
    explained: list[dict[str, Any]], regression: Path
) -> None:
    by_name = {Path(one["image"]).name: one for one in explained}
    told = read_predictions(regression / PREDICTIONS)
    assert {row.set for row in told} == {"validation", "test"}
    for row in told:
        one = by_name[row.file]
        # One network in fp32, in batches of other sizes.
        assert float(one["predicted"]) == pytest.approx(float(row.said.predicted), abs=1e-5)
        assert float(one["truth"]) == float(row.said.target)
        assert one["set"] in (row.set, "golden")
    assert by_name[f"{PARTS - 1:02}.png"]["truth"] is None
    split = json.loads((regression / "split.json").read_text())["files"]
    assert {name: by_name[name]["set"] for names in split.values() for name in names} == {
        name: key for key, names in split.items() for name in names
    }


def test_an_image_from_elsewhere_has_no_truth(regression: Path, data: Path, tmp_path: Path) -> None:
    image = tmp_path / "part 7 $x$.png"
    image.write_bytes((data / "07.png").read_bytes())
    before = set(regression.rglob("*"))
    words = ("explain", regression, image, data / "07.png", "--out", tmp_path / "maps")
    ours, theirs = json.loads(succeed(*words, "--json"))["images"]
    assert (ours["truth"], ours["set"]) == (None, None)
    assert theirs["truth"] is not None
    assert float(ours["predicted"]) == pytest.approx(float(theirs["predicted"]), abs=1e-5)
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {
        "part 7 $x$.hirescam.png",
        "07.hirescam.png",
    }
    assert set(regression.rglob("*")) == before
    table = succeed(*words)
    assert "part 7 $x$.hirescam.png" in table
    assert table.splitlines()[0].split() == [
        "image",
        "map",
        "of",
        "predicted",
        "true",
        "set",
        "picture",
    ]


def test_of_classes_the_likeliest_or_the_chosen_one_is_explained(
    classification: Path, data: Path, tmp_path: Path
) -> None:
    base = ("explain", classification, *sorted(data.glob("1*.png")), "--out", tmp_path, "--json")
    likeliest = json.loads(succeed(*base))["images"]
    assert all(one["explained"] == one["predicted"] for one in likeliest)
    assert all(max(one["scores"], key=one["scores"].get) == one["predicted"] for one in likeliest)
    chosen = json.loads(succeed(*base, "--class", "crack"))["images"]
    assert {one["explained"] for one in chosen} == {"crack"}
    assert [one["predicted"] for one in chosen] == [one["predicted"] for one in likeliest]
    message = refuse(ExperimentError, *base, "--class", "dent")
    assert "crack, good, void" in message


@pytest.mark.parametrize("run", ["regression", "classification"])
def test_the_report_shows_maps(run: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(run)
    assert (folder / "figures" / "maps.png").exists()
    assert "Where the network looked" in (folder / "report.html").read_text()


def test_what_cannot_be_explained_is_told_and_nothing_is_written(
    regression: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    good = data / "00.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.png").write_bytes(good.read_bytes()[:40])
    deep = tmp_path / "deep.png"
    assert cv2.imwrite(str(deep), np.zeros((20, 24), np.uint16))
    for image, words in (
        (tmp_path / "gone.png", "gone.png"),
        (tmp_path / "torn.png", "torn.png"),
        (deep, "uint16 pixels, the model takes 8 bit"),
        (tmp_path / "empty", "no image in it"),
    ):
        message = refuse(InputDataError, "explain", regression, good, image, "--out", out)
        assert words in message
    message = refuse(ExperimentError, "explain", tmp_path / "none", good, "--out", out)
    assert "name the --out folder of a finished `lineside train`" in message
    message = refuse(ExperimentError, "explain", regression, good, "--class", "crack", "--out", out)
    assert "learnt a number" in message
    assert not out.exists()


def test_pictures_never_share_a_name_nor_take_an_images() -> None:
    files = [Path("a/x.png"), Path("b/x.png"), Path("c/x-2.png"), Path("d/x.jpg"), Path("y.png")]
    names = picture_names(files, "hirescam")
    assert len(set(names)) == len(files)
    assert names[0] == "x.hirescam.png"
    assert not {file.name for file in files} & set(names)


@pytest.mark.parametrize("worse", ["higher", "lower"])
def test_examples_come_from_both_ends_and_many_parts(worse: str) -> None:
    targets = np.arange(20, dtype=np.float64)
    parts = np.array([f"p{index // 2}" for index in range(20)])
    shown = choose_examples(targets, parts, classes=0, worse=worse)  # type: ignore[arg-type]
    assert len(set(shown.tolist())) == len(shown) == 8
    assert len(set(parts[shown].tolist())) == 8
    shown_values = targets[shown] if worse == "higher" else -targets[shown]
    assert shown_values[:4].max() < shown_values[4:].min()
    assert shown_values[-1] == shown_values.max()
    few = choose_examples(targets[:3], parts[:3], classes=0, worse=worse)  # type: ignore[arg-type]
    assert sorted(few.tolist()) == [0, 1, 2]


def test_examples_of_each_class() -> None:
    targets = np.array([0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2], dtype=np.float64)
    parts = np.array([f"p{index}" for index in range(11)])
    shown = choose_examples(targets, parts, classes=3, worse="higher")
    assert targets[shown].tolist() == [0, 0, 1, 2, 2]
