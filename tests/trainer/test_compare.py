"""`lineside compare`: paired where the images are the same, and only there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from command_line import call

from lineside_trainer.errors import TrainerError
from lineside_trainer.experiment import (
    DataSettings,
    Experiment,
    FitSettings,
    PretrainSettings,
    RunSettings,
    TrainSettings,
)
from lineside_trainer.experiment_file import (
    differences,
    encode_experiment,
)
from lineside_trainer.runs.predictions import PREDICTIONS, Prediction, Said, write_predictions
from lineside_trainer.runs.results import Ends, Figure, Run, SeedRun, TrainResult, TrainSeedsResult
from lineside_trainer.runs.runfolder import EXPERIMENT, RESULT, write_document
from lineside_trainer.seeds import spread

PARTS, VIEWS = 20, 3
COUNT = PARTS * VIEWS
TRUTH = np.random.default_rng(0).uniform(0, 1, COUNT)
ENDS = Ends(first=1.0, last=0.5, best=0.5, best_epoch=2)


def compare(*folders: Path, out: Path | None = None) -> dict:
    options = ["--out", out] if out else []
    result = call("compare", *folders, *options, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def noisy(error: float, seed: int = 1) -> np.ndarray:
    return TRUTH + np.random.default_rng(seed).normal(0, error, COUNT)


def rows(predicted: Sequence[object], *, names: str = "p", kind: str = "number") -> list:
    def said(number: int) -> Said:
        if kind == "number":
            return Said(target=repr(float(TRUTH[number])), predicted=repr(float(predicted[number])))
        truth = "bad" if TRUTH[number] > 0.5 else "good"
        word = str(predicted[number])
        other = "good" if word == "bad" else "bad"
        return Said(target=truth, predicted=word, scores={word: 0.9, other: 0.1})

    return [
        Prediction(
            file=f"{names}{number}.png",
            part=f"{names}{number // VIEWS}",
            set="test",
            said=said(number),
        )
        for number in range(COUNT)
    ] + [
        # Validation images must play no part, however wrong they are.
        Prediction(file="v.png", part="v", set="validation", said=said(0)),
    ]


def make_run(
    folder: Path,
    predictions: list[Prediction],
    *,
    metric: str = "mse",
    value: float = 0.1,
    data_sha256: str = "ab" * 32,
    experiment: Experiment | None = None,
    seed: int = 0,
) -> Path:
    """The files that a finished run has, as its own writers write them."""
    folder.mkdir(parents=True)
    told = experiment or Experiment(data=DataSettings(folder="/joints"))
    told = msgspec.structs.replace(told, run=RunSettings(seed=seed))
    (folder / EXPERIMENT).write_text(encode_experiment(told))
    write_predictions(folder / PREDICTIONS, predictions)
    figure = Figure(
        value=value, low=value / 2, high=value * 2, confidence=0.95, drawn_by="part", drawn=PARTS
    )
    run = Run(
        images=300,
        counts={"training": 180, "test": COUNT},
        rejected={},
        notes=(),
        transductive=False,
        epochs=3,
        batch_size=4,
        training_loss=ENDS,
        validation=ENDS,
        seconds=12.0,
        images_per_s=34.0,
        parameters=1234,
        device="cpu",
        precision="fp32",
        seed=seed,
        split_seed=0,
        data_sha256=data_sha256,
        versions={},
        machine="a desk",
        command="lineside train",
    )
    result = TrainResult(
        task="regression" if metric == "mse" else "classification",
        arch="vit_tiny",
        target="damage",
        unit="1",
        metric=metric,
        lower_is_better=metric == "mse",
        judged_by="MSE",
        test={metric: figure},
        baseline={metric: figure},
        baseline_name="mean predictor",
        better_than_baseline=False,
        test_by_part={},
        unlabelled=0,
        init="",
        candidate="candidate",
        run=run,
    )
    write_document(folder / RESULT, result)
    return folder


def make_seeds(folder: Path, errors: Sequence[float]) -> Path:
    runs = []
    for seed, error in enumerate(errors):
        make_run(folder / f"seed{seed}", rows(noisy(error, seed)), value=error**2, seed=seed)
        short = SeedRun(
            seed=seed,
            split_seed=0,
            folder=f"seed{seed}",
            validation=0.5,
            test={"mse": error**2},
            better_than_baseline=False,
            epochs=3,
            seconds=1.0,
        )
        runs.append(short)
    figures = spread([error**2 for error in errors])
    result = TrainSeedsResult(
        task="regression",
        arch="vit_tiny",
        target="damage",
        unit="1",
        metric="mse",
        lower_is_better=True,
        judged_by="MSE",
        test={"mse": figures},
        baseline={"mse": figures},
        baseline_name="mean predictor",
        better_than_baseline=0,
        validation=figures,
        chosen_seed=0,
        candidate="candidate",
        init="",
        runs=tuple(runs),
        notes=(),
        transductive=False,
        parameters=1234,
        machine="a desk",
        command="lineside train",
    )
    write_document(folder / RESULT, result)
    told = Experiment(data=DataSettings(folder="/joints"), run=RunSettings(seeds=len(errors)))
    (folder / EXPERIMENT).write_text(encode_experiment(told))
    return folder


def test_a_clear_difference_is_told_and_its_figure_is_exact(tmp_path: Path) -> None:
    rough, fine = noisy(0.3), noisy(0.05, seed=2)
    first, second = (
        make_run(tmp_path / name, rows(values)) for name, values in (("a", rough), ("b", fine))
    )
    found = compare(first, second)["paired"][0]
    expected = np.mean((fine - TRUTH) ** 2) - np.mean((rough - TRUTH) ** 2)
    assert found["difference"]["value"] == pytest.approx(expected)
    assert found["difference"]["drawn_by"] == "part"
    assert found["difference"]["drawn"] == PARTS
    assert found["verdict"] == "better"
    assert compare(second, first)["paired"][0]["verdict"] == "worse"


def test_a_run_against_itself_is_undecided(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", rows(noisy(0.3)))
    found = compare(run, run)["paired"][0]
    assert found["difference"]["value"] == 0.0
    assert found["verdict"] == "undecided"


def test_more_right_classes_are_better(tmp_path: Path) -> None:
    right = ["bad" if value > 0.5 else "good" for value in TRUTH]
    wrong = [w if number % 2 else "good" for number, w in enumerate(right)]
    runs = [
        make_run(tmp_path / name, rows(said, kind="class"), metric="accuracy")
        for name, said in (("wrong", wrong), ("right", right))
    ]
    found = compare(*runs)["paired"][0]
    missed = sum(a != b for a, b in zip(wrong, right, strict=True))
    assert found["difference"]["value"] == pytest.approx(missed / COUNT)
    assert found["verdict"] == "better"


def test_average_precision_is_compared_where_it_is_the_primary_metric(tmp_path: Path) -> None:
    right = ["bad" if value > 0.5 else "good" for value in TRUTH]
    wrong = [w if number % 2 else "good" for number, w in enumerate(right)]
    runs = [
        make_run(tmp_path / name, rows(said, kind="class"), metric="average_precision")
        for name, said in (("wrong", wrong), ("right", right))
    ]
    found = compare(*runs)["paired"][0]
    assert found["difference"]["value"] > 0.1
    assert found["verdict"] == "better"


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"predictions": rows(noisy(0.1), names="q")}, "other images"),
        ({"predictions": rows(noisy(0.1))[: COUNT - 3]}, "other images"),
        (
            {
                "predictions": rows(noisy(0.1)),
                "data_sha256": "cd" * 32,
                "experiment": Experiment(data=DataSettings(folder="/elsewhere")),
            },
            "other images",
        ),
        ({"predictions": rows(["good"] * COUNT, kind="class"), "metric": "accuracy"}, "task"),
    ],
)
def test_what_cannot_be_paired_is_not(second: dict, why: str, tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", rows(noisy(0.3)))
    found = compare(first, make_run(tmp_path / "b", **second))["paired"][0]
    assert found["difference"] is None
    assert found["verdict"] == ""
    assert why in found["why_not"]


def test_other_sizes_of_the_same_folder_are_paired(tmp_path: Path) -> None:
    """The hash is over pixels as the network sees them; the truth and the files are the same."""
    first = make_run(tmp_path / "a", rows(noisy(0.3)))
    second = make_run(tmp_path / "b", rows(noisy(0.1)), data_sha256="cd" * 32)
    assert compare(first, second)["paired"][0]["difference"]["seeds"] == 1


def test_seeds_are_paired_with_seeds(tmp_path: Path) -> None:
    first = make_seeds(tmp_path / "rough", (0.3, 0.31, 0.29))
    second = make_seeds(tmp_path / "fine", (0.05, 0.06))
    found = compare(first, second)
    assert found["paired"][0]["difference"]["seeds"] == 2
    assert found["paired"][0]["verdict"] == "better"
    assert found["runs"][0]["test"]["mse"]["runs"] == 3
    single = make_run(tmp_path / "one", rows(noisy(0.05, seed=9)), seed=9)
    assert compare(first, single)["paired"][0]["difference"]["seeds"] == 1


def test_settings_that_differ_are_listed_and_no_others(tmp_path: Path) -> None:
    told = [
        Experiment(
            data=DataSettings(folder="/joints"),
            train=TrainSettings(init=init, limit=limit, fit=FitSettings(epochs=epochs, lr=1e-3)),
        )
        for init, limit, epochs in (("", None, 5), ("/pre", 0.2, 5))
    ]
    runs = [
        make_run(tmp_path / f"r{number}", rows(noisy(0.3)), experiment=experiment)
        for number, experiment in enumerate(told)
    ]
    found = compare(*runs)["settings"]
    assert found["train.limit"] == [None, 0.2]
    assert set(found) == {"train.init", "train.limit"}
    assert differences([told[0], told[0]]) == {}


def test_pretraining_settings_are_those_of_the_run_that_was_started_from(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "noise", rows(noisy(0.3)))]
    for name, method in (("a", "mae"), ("b", "simmim")):
        (tmp_path / f"pre_{name}").mkdir()
        before = Experiment(pretrain=PretrainSettings(method=method))
        (tmp_path / f"pre_{name}" / EXPERIMENT).write_text(encode_experiment(before))
        told = Experiment(
            data=DataSettings(folder="/joints"),
            pretrain=PretrainSettings(transductive=name == "a"),  # of no effect in a tuning
            train=TrainSettings(init=str(tmp_path / f"pre_{name}")),
        )
        runs.append(make_run(tmp_path / name, rows(noisy(0.3)), experiment=told))
    found = compare(*runs)["settings"]
    assert found["pretrain.method"] == [None, "mae", "simmim"]
    assert set(found) == {"pretrain.method", "train.init"}


def test_the_page_and_the_table_say_the_same(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name / "joint", rows(noisy(error)))
        for name, error in (("<scratch>", 0.3), ("mae", 0.1))
    ]
    page = tmp_path / "compare.html"
    result = call("compare", *runs, "--out", page)
    assert result.exit_code == 0
    text = page.read_text()
    for words in ("better", "Against", "mean predictor"):
        assert words in result.stdout
        assert words in text
    assert "<scratch>" not in text
    assert "&lt;scratch&gt;/joint" in text, "names are as long as it takes to tell them apart"
    assert text.count("data:image/png;base64,") == 1


def test_what_is_no_tuning_run_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", rows(noisy(0.3)))
    assert call("compare", run).exit_code == 2
    result = call("compare", run, tmp_path / "gone")
    assert isinstance(result.exception, TrainerError)
    assert "was the run finished?" in str(result.exception)
    (tmp_path / "pre").mkdir()
    (tmp_path / "pre" / RESULT).write_text('{"method": "mae"}')
    result = call("compare", run, tmp_path / "pre")
    assert "no tuning run" in str(result.exception)
