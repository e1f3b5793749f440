"""`lineside rescore`: what it takes over from a finished run, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import refuse

from lineside_trainer.anomaly.learnt import rescored
from lineside_trainer.errors import ExperimentError
from lineside_trainer.experiment_file import convert_experiment, encode_experiment

LEARNT: dict[str, object] = {
    "data": {"folder": "plates"},
    "train": {"task": "anomaly", "limit": 0.7, "anomaly": {"score": "gradcon", "gamma": 0.3}},
}


def finished(folder: Path, table: dict[str, object] = LEARNT) -> Path:
    """As much of a run as is looked at before any image is."""
    experiment = convert_experiment(table, source="test")
    (folder / "experiment.toml").write_text(encode_experiment(experiment))
    (folder / "result.json").write_text("{}")
    return folder


def test_a_limit_that_was_given_for_one_score_is_not_anothers(tmp_path: Path) -> None:
    found = rescored(finished(tmp_path), score="recon", gamma=None, limit=None).train
    assert (found.limit, found.anomaly.score, found.anomaly.gamma) == (None, "recon", 0.3)
    assert rescored(tmp_path, score=None, gamma=None, limit=0.2).train.limit == 0.2


def test_what_was_rescored_before_leads_to_the_run_that_learnt(tmp_path: Path) -> None:
    run = finished(tmp_path)
    first = rescored(run, score="recon", gamma=None, limit=None)
    assert first.train.anomaly.run == str(run.resolve())
    again = tmp_path / "again"
    again.mkdir()
    (again / "experiment.toml").write_text(encode_experiment(first))
    (again / "result.json").write_text("{}")
    second = rescored(again, score="elbo", gamma=None, limit=None)
    assert second.train.anomaly.run == str(run.resolve())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gamma", -1), "train.anomaly.gamma"),
        (("--gamma", "nan"), "train.anomaly.gamma"),
        (("--limit", "nan"), "train.limit"),
        (("--limit", "inf"), "train.limit"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, words: tuple[object, ...], said: str) -> None:
    run = finished(tmp_path)
    assert said in refuse(ExperimentError, "rescore", run, *words, "--out", tmp_path / "new")


def test_an_elbo_of_a_cae_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    run = finished(tmp_path, {**LEARNT, "model": {"arch": "cae"}})
    words = ("rescore", run, "--score", "elbo", "--out", tmp_path / "new")
    assert "no ELBO" in refuse(ExperimentError, *words)


def test_what_is_no_finished_autoencoder(tmp_path: Path) -> None:
    words = ("rescore", tmp_path, "--out", tmp_path / "new")
    assert "no finished run" in refuse(ExperimentError, *words)
    finished(tmp_path, {"train": {"task": "classification", "target": "class"}})
    assert "only an autoencoder" in refuse(ExperimentError, *words)
    finished(tmp_path, {**LEARNT, "run": {"seed": 3, "seeds": 2}})
    assert "holds 2 runs, a seed each" in refuse(ExperimentError, *words)
