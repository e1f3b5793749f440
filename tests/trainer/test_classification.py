"""Classification: weights, figures, which classes are good, and what is refused before training."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command_line import call, refuse
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineside.candidate import read_samples
from lineside.contract import ClassificationHead, InputSpec, decode_contract
from lineside.errors import LinesideError
from lineside_trainer.class_coverage import check_classes
from lineside_trainer.data import read_table
from lineside_trainer.data.classes import class_names
from lineside_trainer.errors import DataError, ExperimentError
from lineside_trainer.evaluate import measure
from lineside_trainer.evaluate.judgement import predict
from lineside_trainer.experiment import DataSettings, Experiment, TrainSettings
from lineside_trainer.models import Normalise
from lineside_trainer.prepared import prepare_data
from lineside_trainer.runs.predictions import PREDICTIONS, read_predictions
from lineside_trainer.tasks import Task, build_task

FloatArray = NDArray[np.float64]
INPUT = InputSpec(size_hw=(16, 16), channels=1)
IMAGES = torch.randint(
    0, 256, (6, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
CLASSES = ("crack", "good", "void")
TARGETS = [0, 1, 1, 1, 1, 2, 2, 1]
SMALL = ("--image-size", "16", "--patch", "8", "--batch-size", "16", "--device", "cpu")
TINY = '[model]\narch = "test_resnet"\n[train.fit]\nema = 0.0\n'


def make_task(
    targets: list[int] = TARGETS, classes: tuple[str, ...] = CLASSES, **settings: object
) -> Task:
    torch.manual_seed(0)
    asked = TrainSettings(task="classification", target="kind", head_width=16, **settings)  # type: ignore[arg-type]
    normalise = Normalise((127.0,), (60.0,))
    given = np.array(targets, float)
    return build_task(Experiment(train=asked), INPUT, normalise, given, classes)


def test_probabilities_sum_to_one_in_the_exported_graph() -> None:
    values = predict(make_task().network, IMAGES)
    assert values.shape == (6, 3)
    np.testing.assert_allclose(values.sum(axis=1), 1.0, atol=1e-6)


def test_balanced_classes_have_the_same_say() -> None:
    task = make_task()
    counts = np.bincount(TARGETS)
    weights = task.class_weights.numpy()  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(weights * counts, counts.sum() / 3)
    # Kish: (sum of weights)² / sum of squared weights, by hand 8² / (3 * (8/3)² * mean of 1/n_c).
    effective = 64 / sum((8 / 3) ** 2 / n for n in counts)
    assert f"worth {effective:.0f} of 8" in task.notes[0]
    assert task.judged_by == "weighted cross-entropy"
    even = make_task(class_weights="none")
    assert even.class_weights.tolist() == [1.0, 1.0, 1.0]  # type: ignore[union-attr, operator]
    assert (even.judged_by, "worth 8 of 8" in even.notes[0]) == ("cross-entropy", True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_weighted_cross_entropy(smoothing: float) -> None:
    task = make_task(label_smoothing=smoothing).eval()
    targets = torch.tensor([0.0, 1, 2, 1, 1, 0])
    chances = np.log(predict(task.network, IMAGES))
    weights = task.class_weights.numpy()[targets.long()]  # type: ignore[union-attr, operator]
    right = chances[np.arange(6), targets.long()]
    errors = -((1 - smoothing) * right + smoothing * chances.mean(axis=1)) * weights
    loss = task.loss(IMAGES, targets, torch.Generator())
    assert float(loss.detach()) == pytest.approx(errors.mean(), rel=1e-5)
    judged = task.judge(IMAGES, targets, torch.Generator()).detach().numpy()
    np.testing.assert_allclose(judged, -right * weights, rtol=1e-5)


def test_equal_slices_average_to_the_whole() -> None:
    """So that several processes have the gradient of one, whatever classes each of them got."""
    task = make_task().eval()
    targets = torch.tensor([0.0, 0, 0, 1, 1, 1])
    generator = torch.Generator()
    whole = float(task.loss(IMAGES, targets, generator).detach())
    slices = [float(task.loss(IMAGES[s], targets[s], generator).detach()) for s in
              (slice(0, 3), slice(3, 6))]  # fmt: skip
    assert whole == pytest.approx(np.mean(slices), rel=1e-5)


def test_what_it_promises() -> None:
    task = make_task(good=("void", "good"))
    (output,) = task.outputs()
    assert (output.name, output.shape, output.unit) == ("probability", (3,), "1")
    assert task.head() == ClassificationHead(
        output="probability", target="kind", classes=CLASSES, good=("good", "void")
    )


def test_every_figure_stands_beside_the_most_frequent_class() -> None:
    truth = np.array([0, 1, 1, 2, 2, 1, 0, 1] * 4, float)
    said = np.eye(3)[truth.astype(int)] * 0.8 + 0.2 / 3
    parts = np.repeat([f"p{i}" for i in range(16)], 2)
    result = measure(make_task().yardstick(truth, said), parts)
    keys = ["average_precision", "accuracy", "balanced_accuracy", "defect_average_precision"]
    keys += ["recall:crack", "recall:good", "recall:void"]
    assert list(result.figures) == list(result.baseline) == keys
    assert (result.metric, result.lower_is_better) == ("average_precision", False)
    assert {figure.value for figure in result.figures.values()} == {1.0}
    trivial = {name: figure.value for name, figure in result.baseline.items()}
    assert trivial["accuracy"] == 0.5
    assert trivial["balanced_accuracy"] == pytest.approx(1 / 3)
    assert trivial["average_precision"] == pytest.approx((0.25 + 0.5 + 0.25) / 3)
    assert trivial["defect_average_precision"] == 0.5
    assert (trivial["recall:good"], trivial["recall:crack"]) == (1.0, 0.0)
    assert result.better
    assert result.baseline_name == "most frequent class"


def test_draws_without_a_class_make_nobody_better() -> None:
    """Fewer classes have a higher mean for anybody, so that an interval may lie above a figure."""
    truth = np.repeat([0.0, 1.0, 2.0], [4, 40, 4])
    parts = np.repeat(["a", *(f"b{i}" for i in range(10)), "c"], [4, *[4] * 10, 4])
    almost = np.tile([0.0, 1.0, 0.0], (48, 1))
    almost[5] = [0.4, 0.2, 0.4]  # one good part looks a little strange
    result = measure(make_task().yardstick(truth, almost), parts)
    low = result.difference.low
    assert low is not None and low < 0.0
    assert not result.better


def test_who_says_the_most_frequent_class_is_not_better() -> None:
    truth = np.array([0, 1, 1, 2, 2, 1, 0, 1] * 4, float)
    always = np.tile([0.0, 1.0, 0.0], (32, 1))
    parts = np.repeat([f"p{i}" for i in range(16)], 2)
    assert not measure(make_task().yardstick(truth, always), parts).better


@pytest.mark.parametrize(
    ("classes", "good", "found"),
    [
        (("crack", "good"), (), ("good",)),
        (("Crack", "OK"), (), ("OK",)),
        (("Free", "blowhole", "fray"), (), ("Free",)),
        (("0", "1"), ("0",), ("0",)),
        (("a", "b", "c"), ("c", "a", "c"), ("a", "c")),
    ],
)
def test_good_classes_are_told_or_obvious(
    classes: tuple[str, ...], good: tuple[str, ...], found: tuple[str, ...]
) -> None:
    task = make_task(list(range(len(classes))), classes, good=good)
    assert task.head().good == found  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("classes", "good", "told"),
    [
        (("a", "b"), (), "which class is of good parts.*a, b; give --good"),
        (("good", "ok", "crack"), (), "give --good"),
        (("a", "b"), ("c",), "'c' is no class.*a, b"),
        (("a", "b"), ("a", "b"), "at least one class must be a defect"),
    ],
)
def test_good_classes_that_cannot_be_are_refused(
    classes: tuple[str, ...], good: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ExperimentError, match=told):
        make_task(list(range(len(classes))), classes, good=good)


words = st.text("abcXYZ 0.", min_size=1, max_size=5).map(str.strip).filter(bool)


@given(st.lists(words, min_size=2, max_size=6, unique=True), st.data())
def test_classes_do_not_depend_on_the_order_of_rows(names: list[str], data: st.DataObject) -> None:
    labels = [*names, "crack", "", None]
    shuffled = data.draw(st.permutations(labels))
    classes, rows = class_names(labels, "kind")
    again, rows_again = class_names(shuffled, "kind")
    assert classes == again == tuple(sorted({*names, "crack"}))
    assert sorted(rows) == sorted(rows_again)
    assert set(rows) == {*classes, ""}


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=6, unique=True))
def test_whole_numbers_are_classes_however_they_are_written(numbers: list[int]) -> None:
    written = [f"{n}.0" if place % 2 else str(n) for place, n in enumerate(numbers)]
    classes, rows = class_names([*written, "nan", ""], "kind")
    assert classes == tuple(str(n) for n in sorted(numbers))
    assert rows == [*map(str, numbers), "", ""]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["0.5", "1"], "0.5 is a fraction.*--task regression"),
        (["good", "good"], "every label says 'good'"),
        (["1", "1.0"], "every label says '1'"),
        (["", "nan"], "not one label"),
    ],
)
def test_a_column_without_classes_is_refused(labels: list[str], told: str) -> None:
    with pytest.raises(DataError, match=f"column 'kind'.*{told}"):
        class_names(labels, "kind")


def draw(folder: Path, kinds: dict[str, int], *, seed: int = 0) -> Path:
    """Gray squares: a class is a brightness; two images a part, the labels in `labels.csv`."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "part", "kind", "share"])
        for place, (kind, parts) in enumerate(kinds.items()):
            for part in range(parts):
                for view in range(2):
                    level = 60 + 120 * place / max(1, len(kinds) - 1)
                    pixels = np.clip(generator.normal(level, 10, (16, 16)), 0, 255)
                    name = f"{place}_{part}_{view}.png"
                    assert cv2.imwrite(str(folder / name), pixels.astype(np.uint8))
                    writer.writerow([name, f"{place}_{part}", kind, part / 10])
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    data = draw(folder / "tiles", {"free": 20, "crack": 12, "": 3, "void": 14})
    config = folder / "tiny.toml"
    config.write_text(TINY)
    result = call(
        *("train", "--data", data, "--group", "part", "--task", "classification"),
        *("--target", "kind", "--limit", "0.5", "--out", folder / "run", "--config", config),
        *("--epochs", "6", "--lr", "3e-3", "--json"),
        *(*SMALL, "--image-size", "32"),
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["metric"] == "average_precision"
    return folder / "run"


def test_a_run_says_how_well_classes_are_told_apart(tuned: Path) -> None:
    saved = json.loads((tuned / "result.json").read_text())
    assert saved["judged_by"] == "weighted cross-entropy"
    assert (
        saved["test"]["average_precision"]["value"]
        > saved["baseline"]["average_precision"]["value"]
    )
    assert {"recall:crack", "recall:free", "recall:void"} < set(saved["test"])
    assert saved["unlabelled"] == 6
    assert any("so weighted" in note for note in saved["run"]["notes"])
    rows = read_predictions(tuned / PREDICTIONS)
    test = [row for row in rows if row.set == "test"]
    right = [row.said.target == row.said.predicted for row in test]
    assert np.mean(right) == pytest.approx(saved["test"]["accuracy"]["value"])
    assert all(set(row.said.scores) == {"crack", "free", "void"} for row in rows)
    assert all(sum(row.said.scores.values()) == pytest.approx(1.0, abs=1e-6) for row in rows)
    page = (tuned / "report.html").read_text()
    figures = {path.name for path in (tuned / "figures").iterdir()}
    assert {"confusion.png", "scores.png", "curves.png"} <= figures
    for text in ("most frequent class", "recall of crack", "balanced accuracy", "good: free"):
        assert text in page


def test_the_candidate_names_its_classes_and_targets_are_their_places(tuned: Path) -> None:
    contract = decode_contract((tuned / "candidate" / "contract.json").read_bytes(), source="x")
    assert contract.head == ClassificationHead(
        target="kind", classes=("crack", "free", "void"), good=("free",)
    )
    assert contract.outputs[0].shape == (3,)
    sets = read_samples(tuned / "candidate" / "samples.npz")
    targets = np.concatenate([samples.targets for samples in sets.values()])
    assert set(targets[np.isfinite(targets)]) == {0.0, 1.0, 2.0}


def test_class_folders_are_classes(tmp_path: Path) -> None:
    for name in ("good/a.png", "good/b.png", "crack/a.png", "loose.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.zeros((8, 8), np.uint8))
    table = read_table(tmp_path, target="class", group=None, labels="class")
    assert table.classes == ("crack", "good")
    assert [record.name for record in table.records] == [
        *("crack/a.png", "good/a.png", "good/b.png", "loose.png"),
    ]
    np.testing.assert_array_equal(table.targets, [0.0, 1.0, 1.0, np.nan])
    assert [entry.file for entry in table.unlabelled] == ["loose.png"]


@pytest.mark.parametrize(
    ("kinds", "options", "kind", "told"),
    [
        (
            {"good": 12, "crack": 12, "rare": 1},
            *(("--split-seed", "3"), DataError, r"'rare' .* 1 part\(s\), by sample set test 2"),
        ),
        ({"good": 12}, (), DataError, "every label says 'good'"),
        ({"good": 12, "crack": 12}, ("--target", "share"), DataError, "is a fraction"),
        ({"fine": 12, "crack": 12}, (), ExperimentError, "crack, fine; give --good NAME"),
        ({"fine": 12, "crack": 12}, ("--good", "god"), ExperimentError, "'god' is no class"),
        ({"good": 12, "crack": 12}, ("--limit", "1.5"), ExperimentError, "train.limit: 1.5"),
        ({"good": 12, "crack": 12}, ("--unit", "mm"), ExperimentError, "train.unit"),
        ({"good": 12, "crack": 12}, ("--worse", "lower"), ExperimentError, "train.worse"),
        (
            {"good": 12, "crack": 12},
            ("--task", "regression", "--target", "share", "--good", "good"),
            *(ExperimentError, "train.good"),
        ),
        ({"good": 12, "crack": 12}, ("--task", "regression"), DataError, "number to learn from"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_training(
    kinds: dict[str, int],
    options: tuple[str, ...],
    kind: type[LinesideError],
    told: str,
    tmp_path: Path,
) -> None:
    data = draw(tmp_path / "data", kinds, seed=1)
    base = ("train", "--data", data, "--group", "part", "--task", "classification")
    message = refuse(kind, *base, "--target", "kind", "--out", tmp_path / "run", *SMALL, *options)
    assert re.search(told, message), message
    assert not (tmp_path / "run").exists()


def test_a_fold_of_one_class_is_refused(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", {"good": 6, "crack": 6})
    rows = list(csv.DictReader((data / "labels.csv").open()))
    with (data / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "fold"])
        writer.writeheader()
        for row in rows:
            good, part = row["kind"] == "good", int(row["part"][2:])
            fold = "train" if part < 3 else ("val" if part == 3 or not good else "test")
            writer.writerow({**row, "fold": fold})
    message = refuse(
        DataError,
        *("train", "--data", data, "--group", "part", "--split-column", "fold", *SMALL),
        *("--task", "classification", "--target", "kind", "--out", tmp_path / "run"),
    )
    assert "the test samples are of one class only" in message
    assert "(crack)" in message


@pytest.mark.parametrize(
    ("golden", "told"),
    [
        (("good", "void"), ""),
        (("crack", "void"), "2 golden samples are all of defects"),
        (("good", "good"), "are all of good parts"),
    ],
)
def test_golden_samples_that_prove_nothing_are_told(
    golden: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    data = draw(tmp_path / "data", {"good": 8, "crack": 8, "void": 8})
    experiment = Experiment(
        data=DataSettings(folder=str(data), group="part", image_size_hw=(16, 16)),
        train=TrainSettings(task="classification", target="kind"),
    )
    prepared = prepare_data(experiment, target="kind", folder=tmp_path / "run")
    rows = [
        int(np.flatnonzero(prepared.table.targets == prepared.table.classes.index(kind))[place])
        for place, kind in enumerate(golden)
    ]
    indices = {**prepared.split.indices, "golden": np.array(rows)}
    changed = replace(prepared, split=replace(prepared.split, indices=indices))
    notes = check_classes(changed, prepared.labelled("training"), ("good",))
    about_golden = [note for note in notes if "golden" in note]
    assert [told in note for note in about_golden] == ([True] if told else [])
