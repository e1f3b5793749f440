"""The list of doubted labels: of images that nothing learnt from, worst first."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lineside.cli.main import lineside
from lineside_trainer.runs.predictions import Prediction, Said, read_predictions
from lineside_trainer.telling.doubts import FAR, MOST_LISTED, draw_doubts, rank_doubts, write_doubts

WRONG = ("3.png", "17.png", "44.png")


def number(file: str, target: float, predicted: float) -> Prediction:
    said = Said(target=repr(target), predicted=repr(predicted))
    return Prediction(file=file, part=file, set="test", said=said)


def called(file: str, label: str, good: float) -> Prediction:
    said = Said(
        target=label,
        predicted="good" if good >= 0.5 else "bad",
        scores={"good": good, "bad": 1.0 - good},
    )
    return Prediction(file=file, part=file, set="validation", said=said)


@given(
    st.lists(st.tuples(st.sampled_from(["good", "bad"]), st.floats(0, 1)), min_size=1, max_size=200)
)
def test_classes_are_doubted_where_the_model_calls_another(images: list[tuple[str, float]]) -> None:
    predictions = [called(f"{i}.png", label, good) for i, (label, good) in enumerate(images)]
    doubts = [doubt.prediction for doubt in rank_doubts(predictions)]
    expected = [one for one in predictions if one.said.predicted != one.said.target]
    assert len(doubts) == min(len(expected), MOST_LISTED)
    assert all(one in expected for one in doubts)
    left = [1.0 - one.dispute for one in doubts]
    assert left == sorted(left)


@given(st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=200))
def test_numbers_are_doubted_far_from_the_median_error(errors: list[float]) -> None:
    predictions = [number(f"{i}.png", 0.0, error) for i, error in enumerate(errors)]
    median = float(np.median(np.abs(errors)))
    doubts = rank_doubts(predictions)
    found = [doubt.prediction.dispute for doubt in doubts]
    assert found == sorted(found, reverse=True)
    assert all(value >= FAR * median * (1 - 1e-9) > 0.0 for value in found)
    if median > 0.0:
        far = sum(abs(error) / median >= FAR for error in errors)
        assert len(found) == min(far, MOST_LISTED)


def test_nothing_disputed_leaves_an_empty_table(tmp_path: Path) -> None:
    assert rank_doubts([]) == []
    assert rank_doubts([number("a.png", 1.0, 1.0), number("b.png", 2.0, 2.0)]) == []
    write_doubts(tmp_path / "doubts.csv", [])
    assert (tmp_path / "doubts.csv").read_text().count("\n") == 1


def test_names_that_look_like_formulas_can_be_drawn(tmp_path: Path) -> None:
    said = Said(target="$bad_{", predicted="ok$", scores={"$bad_{": 0.1, "ok$": 0.9})
    one = Prediction(file="$x^.png", part="a", set="test", said=said)
    doubts = rank_doubts([one] * 8)
    draw_doubts(tmp_path / "a.png", torch.zeros(8, 4, 4, 3, dtype=torch.uint8), doubts)
    assert cv2.imread(str(tmp_path / "a.png")) is not None


def test_labels_that_were_swapped_are_found(tmp_path: Path) -> None:
    """Brightness is the target; three labels that no step will learn from are moved far off."""
    generator = np.random.default_rng(0)
    folds = ["train"] * 40 + ["val"] * 15 + ["test"] * 15
    generator.shuffle(folds)
    for file, fold in zip(WRONG, ("val", "test", "test"), strict=True):
        at = int(file.removesuffix(".png"))
        other = next(i for i, f in enumerate(folds) if f == fold and f"{i}.png" not in WRONG)
        folds[at], folds[other] = folds[other], folds[at]
        folds[at] = fold
    lines = ["file,fold,damage"]
    for i, fold in enumerate(folds):
        level = generator.uniform(40, 200)
        pixels = np.clip(generator.normal(level, 8, (32, 32)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), pixels)
        wrong = f"{i}.png" in WRONG
        lines.append(f"{i}.png,{fold},{(level + (300 if wrong else 0)) / 100}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "run"
    options = ["--data", tmp_path, "--target", "damage", "--split-column", "fold", "--out", out]
    options += ["--arch", "test_resnet", "--image-size", "32", "--device", "cpu"]
    options += ["--epochs", "20", "--batch-size", "8", "--probe", "--lr", "0.02"]
    result = CliRunner().invoke(lineside, ["train", *map(str, options)])
    assert result.exit_code == 0, (result.output, result.exception)
    with (out / "doubts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows[: len(WRONG)]} == set(WRONG)
    learnt = {f"{i}.png" for i, fold in enumerate(folds) if fold == "train"}
    assert not learnt & {row["file"] for row in rows}
    assert {row["set"] for row in rows[:3]} == {"validation", "test"}
    listed = {one.file for one in read_predictions(out / "predictions.csv")}
    assert {row["file"] for row in rows} <= listed
    page = (out / "report.html").read_text()
    assert "Labels that the model disputes most" in page
    assert "figures/doubts.png" in page
