"""What cannot be learnt from is told before training starts, with its place and the remedy."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from lineside.cli.main import lineside
from lineside.errors import LinesideError

IMAGES = 20
COLUMNS = ("file", "part", "damage", "kind")
DATA, SETTING = 3, 4

Rows = list[dict[str, str]]


def make_images(folder: Path, change: Callable[[Rows], object] = len) -> Path:
    """A folder from which all verbs learn, but for what `change` does to its table."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows: Rows = []
    for number in range(IMAGES):
        level = 20 + 10 * number
        pixels = np.clip(generator.normal(level, 9, (16, 16)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number:02}.png"), pixels)
        kind = "crack" if number % 2 else "good"
        cells = (f"{number:02}.png", f"part{number}", str(level / 100), kind)
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    change(rows)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images") / "good")


def call(verb: str, data: Path, out: Path, *options: str) -> tuple[BaseException | None, str]:
    target = () if verb == "pretrain" else ("--target", "damage")
    base = ("--data", data, "--group", "part", "--out", out, "--epochs", "1", "--device", "cpu")
    small = ("--image-size", "16", "--patch", "8", "--batch-size", "8")
    words = [str(word) for word in (verb, *target, *base, *small, *options)]
    result = CliRunner().invoke(lineside, words)
    return result.exception, result.output


def refuse(code: int, verb: str, data: Path, out: Path, *options: str) -> str:
    """The error's words; nothing was learnt and nothing stays behind."""
    error, output = call(verb, data, out, *options)
    assert isinstance(error, LinesideError), (error, output)
    assert error.exit_code == code
    assert "epoch 1" not in output
    assert not out.exists()
    assert "\n" not in str(error)
    return str(error)


def put(column: str, value: str, *places: int) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        for place in places or range(len(rows)):
            rows[place][column] = value

    return change


@pytest.mark.parametrize("value", ["broken", "nan", "inf", "0,5"])
@pytest.mark.parametrize("places", [(), (3, 7)], ids=["all", "some"])
def test_a_label_that_is_no_number(value: str, places: tuple[int, ...], tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", put("damage", value, *places))
    told = refuse(DATA, "train", data, tmp_path / "out")
    assert f"03.png: unlabelled: column 'damage' holds {value!r}, no finite number" in told
    assert "--task classification" in told
    assert ("empty them" if places else "decimal point") in told
    if places:
        assert "2 file(s)" in told
        assert "07.png" in told


def test_pretraining_reads_no_labels(tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", put("damage", "broken"))
    error, output = call("pretrain", data, tmp_path / "out")
    assert error is None, output


def test_an_empty_label_is_no_fault(tmp_path: Path) -> None:
    """One image without a label; what is refused above is what was written and cannot be read."""
    data = make_images(tmp_path / "data", put("damage", "", 3))
    told = refuse(DATA, "train", data, tmp_path / "out", "--batch-size", "64")
    assert "fewer than a batch" in told  # so its labels were fine


def test_one_value_only(tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", put("damage", "0.5"))
    told = refuse(DATA, "train", data, tmp_path / "out")
    assert "'damage' is 0.5 in all" in told
    assert "nothing to learn" in told


def test_one_class_only(tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", put("kind", "good"))
    asked = ("--task", "classification", "--target", "kind")
    told = refuse(DATA, "train", data, tmp_path / "out", *asked)
    assert "column 'kind': every label says 'good'" in told
    assert "two classes at least" in told


@pytest.mark.parametrize("verb", ["pretrain", "train"])
def test_fewer_images_than_a_batch(verb: str, good: Path, tmp_path: Path) -> None:
    told = refuse(DATA, verb, good, tmp_path / "out", "--batch-size", "64")
    fitting = told.partition("--batch-size ")[2].partition(" ")[0]
    assert f"{fitting} images to learn from are fewer than a batch of 64 (fit.batch_size)" in told
    # The remedy is one, and it is the largest that is.
    one_more = str(int(fitting) + 1)
    refuse(DATA, verb, good, tmp_path / "out", "--batch-size", one_more)
    error, output = call(verb, good, tmp_path / "out", "--batch-size", fitting)
    assert error is None, output


@pytest.mark.parametrize("verb", ["pretrain", "train"])
def test_an_image_smaller_than_a_patch(verb: str, good: Path, tmp_path: Path) -> None:
    told = refuse(SETTING, verb, good, tmp_path / "out", "--image-size", "4")
    assert "model.patch_px: 8 px does not divide the image of 4x4 px" in told
    data = make_images(tmp_path / "data")
    assert cv2.imwrite(str(data / "05.png"), np.zeros((16, 6), np.uint8))
    told = refuse(DATA, verb, data, tmp_path / "out")
    assert f"{data / '05.png'}: 16x6 px (height x width) is smaller than a patch of 8 px" in told
    assert "--patch" in told


METHODS = {"mae": ("--arch", "vit_tiny"), "simmim": ("--arch", "vit_tiny")}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ratio", ["0", "1", "-0.5", "1.5", "nan"])
@pytest.mark.parametrize("where", ["option", "file"])
def test_a_mask_that_hides_nothing_or_everything(
    where: str, ratio: str, method: str, good: Path, tmp_path: Path
) -> None:
    options: tuple[str, ...] = ("--method", method, *METHODS[method])
    if where == "option":
        options += ("--mask-ratio", ratio)
    else:
        config = tmp_path / "experiment.toml"
        config.write_text(f"[pretrain.{method}]\nmask_ratio = {float(ratio)}\n")
        options += ("--config", str(config))
    told = refuse(SETTING, "pretrain", good, tmp_path / "out", *options)
    if where == "option":
        assert told.startswith("--mask-ratio (mask_ratio): ")
        assert "above 0 and below 1" in told
    else:
        assert told.startswith(f"{tmp_path / 'experiment.toml'}: pretrain.{method}.mask_ratio: ")
