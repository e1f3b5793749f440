"""`train --task anomaly`: learns from good parts alone, and says what that is worth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bright_plates import write_plates
from command_line import refuse, succeed
from scratched_plates import write_scratched_plates

from lineside.candidate import MEMORY, read_samples
from lineside.contract import AnomalyHead, decode_contract
from lineside_trainer.anomaly.learnt import rescored
from lineside_trainer.data.split import read_set_names
from lineside_trainer.errors import DataError, ExperimentError, TrainerError
from lineside_trainer.runs.predictions import read_predictions
from lineside_trainer.runs.results import TrainResult
from lineside_trainer.runs.runfolder import read_document
from lineside_trainer.telling.comparison import compare_runs
from lineside_trainer.tuning import train

SHORT = ("--image-size", 32, "--epochs", 3, "--batch-size", 16, "--device", "cpu")
ANOMALY = ("--task", "anomaly", "--target", "class")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scratched_plates(tmp_path_factory.mktemp("plates"), good=120, bad=30)


@pytest.fixture(scope="module")
def autoencoder(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "vae"
    words = ("--data", plates, *ANOMALY, "--arch", "beta_vae", *SHORT, "--epochs", 12)
    succeed("train", *words, "--score", "recon", "--out", out)
    return out


@pytest.fixture(scope="module")
def memory(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    words = ("--data", plates, "--method", "simsiam", "--arch", "test_resnet", *SHORT)
    succeed("pretrain", *words, "--out", folder / "pre")
    words = ("--data", plates, *ANOMALY, "--init", folder / "pre", "--memory-patches", 20)
    succeed("train", *words, "--out", folder / "run")
    return folder / "run"


def result_of(run: Path) -> TrainResult:
    return read_document(run / "result.json", TrainResult)


@pytest.mark.parametrize("family", ["autoencoder", "memory"])
def test_scratches_are_found_by_who_never_saw_one(
    family: str, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(family)
    result = result_of(run)
    assert result.metric == "auroc"
    assert result.test["auroc"].value > 0.9
    assert result.anomaly is not None
    chosen = result.anomaly.scores[result.anomaly.exported]
    assert chosen.limit_rule == "best_f1"
    assert chosen.at_share is not None and chosen.at_share.f1.mean > 0.7
    assert (run / "report.html").stat().st_size > 50_000
    assert {"scores.png", "ranking.png", "maps.png"} <= {
        path.name for path in (run / "figures").iterdir()
    }


@pytest.mark.parametrize("family", ["autoencoder", "memory"])
def test_no_step_sees_a_bad_part(family: str, request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(family)
    sets = read_set_names(run / "split.json")
    learnt = [*sets["training"], *sets["quantisation"]]
    result = result_of(run)
    used = result.run.counts["training"] + result.run.counts["quantisation"]
    assert used == sum(name.startswith("good") for name in learnt)
    samples = read_samples(run / "candidate" / "samples.npz")
    assert not samples["quantisation"].targets[samples["quantisation"].targets == 1.0].size


def test_bad_parts_of_the_training_fold_choose_the_limit(autoencoder: Path) -> None:
    sets = read_set_names(autoencoder / "split.json")
    assert not [name for name in sets["training"] if name.startswith("bad")]
    assert sum(name.startswith("bad") for name in sets["validation"]) > 15
    assert any(
        "training learns from good parts alone" in n for n in result_of(autoencoder).run.notes
    )


def test_after_a_pretraining_they_choose_nothing(memory: Path) -> None:
    """It may have seen them: a limit that they chose would be chosen on what was learnt from."""
    sets = read_set_names(memory / "split.json")
    assert [name for name in sets["training"] if name.startswith("bad")]
    assert any("pre-training may have seen them" in note for note in result_of(memory).run.notes)


def test_the_candidate_says_what_it_gives(memory: Path, autoencoder: Path) -> None:
    for run, width in ((autoencoder, None), (memory, True)):
        path = run / "candidate" / "contract.json"
        contract = decode_contract(path.read_bytes(), source=str(path))
        assert isinstance(contract.head, AnomalyHead)
        assert contract.head.good == ("good",)
        assert contract.head.classes == ("good", "scratch")
        assert [output.name for output in contract.outputs] == ["score", "map"]
        assert contract.proposed_rule is None  # the exporter chooses, and seals its evidence
        assert (contract.memory is not None) is bool(width)
    patches = np.load(memory / "candidate" / MEMORY, allow_pickle=False)
    assert len(patches) == 20 and patches.dtype == np.float32


def test_a_limit_that_is_told_is_proposed(autoencoder: Path, tmp_path: Path) -> None:
    succeed("rescore", autoencoder, "--limit", 0.5, "--out", tmp_path / "run")
    path = tmp_path / "run" / "candidate" / "contract.json"
    rule = decode_contract(path.read_bytes(), source=str(path)).proposed_rule
    assert rule is not None and (rule.ok_limit, rule.worse) == (0.5, "higher")
    found = result_of(tmp_path / "run").anomaly
    assert found is not None and found.scores["recon"].limit_rule == "given"


def test_every_score_of_every_image_is_written_down(autoencoder: Path) -> None:
    told = read_predictions(autoencoder / "predictions.csv")
    assert {"recon", "elbo", "gradcon"} == set(told[0].said.scores)
    assert {one.set for one in told} == {"validation", "test"}
    assert {one.said.predicted for one in told} == {"good", "bad"}


def test_two_runs_are_compared_on_the_same_images(
    plates: Path, autoencoder: Path, tmp_path: Path
) -> None:
    words = ("--data", plates, *ANOMALY, "--arch", "cae", *SHORT, "--score", "recon")
    succeed("train", *words, "--epochs", 1, "--out", tmp_path / "cae")
    told = json.loads(succeed("compare", autoencoder, tmp_path / "cae", "--json").stdout)
    found = told["paired"][0]
    assert found["metric"] == "auroc"
    aurocs = [result_of(run).test["auroc"].value for run in (autoencoder, tmp_path / "cae")]
    assert found["difference"]["value"] == pytest.approx(aurocs[1] - aurocs[0])


def test_no_other_images_are_rescored(autoencoder: Path, tmp_path: Path) -> None:
    """The limit would be chosen, and the figures made, on what it learnt from."""
    asked = rescored(autoencoder, score="elbo", gamma=None, limit=None)
    others = write_scratched_plates(tmp_path / "others", good=50, bad=10)
    data = msgspec.structs.replace(asked.data, folder=str(others))
    with pytest.raises(ExperimentError, match="learnt from other images"):
        train(msgspec.structs.replace(asked, data=data), tmp_path / "run", resume=False)


def test_two_families_are_compared_on_the_same_images(autoencoder: Path, memory: Path) -> None:
    ours, theirs = (result_of(run).test["auroc"].value for run in (memory, autoencoder))
    (paired,) = compare_runs((autoencoder, memory)).paired
    assert paired.metric == "auroc" and paired.why_not == ""
    assert paired.difference is not None
    assert paired.difference.value == pytest.approx(ours - theirs, abs=1e-6)


def test_a_run_goes_on_to_the_same_result(plates: Path, tmp_path: Path) -> None:
    words = ("--data", plates, *ANOMALY, "--arch", "cae", *SHORT, "--score", "recon")
    succeed("train", *words, "--out", tmp_path / "run")
    before = (tmp_path / "run" / "result.json").read_bytes()
    succeed("train", *words, "--out", tmp_path / "run", "--resume")
    assert (tmp_path / "run" / "result.json").read_bytes() == before


class TestGoodPartsAlone:
    """No bad part is known, as in most factories on the first day."""

    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("good")
        write_scratched_plates(folder / "plates", good=60, bad=0)
        words = ("--task", "anomaly", "--arch", "cae", *SHORT, "--score", "recon")
        succeed("train", "--data", folder / "plates", *words, "--out", folder / "run")
        return folder / "run"

    def test_no_f1_is_printed_and_the_report_says_why(self, run: Path) -> None:
        result = result_of(run)
        assert list(result.test) == ["overkill"] == [result.metric]
        notes = " ".join(result.run.notes)
        assert "no test image is bad" in notes and "F1" in notes
        document = json.loads((run / "result.json").read_text())
        assert document["anomaly"]["scores"]["recon"]["f1"] is None

    def test_what_could_not_be_drawn_is_told(self, run: Path) -> None:
        assert not (run / "figures" / "latents.png").exists()
        assert "no picture of the latent space" in " ".join(result_of(run).run.notes)

    def test_the_limit_is_a_quantile_of_good_parts(self, run: Path) -> None:
        found = result_of(run).anomaly
        assert found is not None
        assert found.scores["recon"].limit_rule == "quantile"

    def test_samples_are_labelled_good(self, run: Path) -> None:
        samples = read_samples(run / "candidate" / "samples.npz")
        assert all((known.targets == 0.0).all() for known in samples.values())

    def test_one_class_folder_is_enough(self, tmp_path: Path) -> None:
        plates = write_scratched_plates(tmp_path / "plates", good=30, bad=0)
        words = (*ANOMALY, "--arch", "cae", *SHORT, "--score", "recon", "--epochs", 1)
        succeed("train", "--data", plates, *words, "--out", tmp_path / "run")
        assert result_of(tmp_path / "run").metric == "overkill"


class TestBadInput:
    def test_a_folder_of_bad_parts_alone_is_not_learnt_as_good(self, tmp_path: Path) -> None:
        plates = write_scratched_plates(tmp_path / "plates", good=0, bad=20)
        words = ("--data", plates, *ANOMALY, "--arch", "cae", *SHORT)
        told = refuse(ExperimentError, "train", *words, "--out", tmp_path / "run")
        assert "'class' are scratch;" in told and "--good NAME" in told
        assert not (tmp_path / "run").exists()

    @pytest.fixture
    def words(self, plates: Path, tmp_path: Path) -> tuple[object, ...]:
        return ("train", "--data", plates, "--out", tmp_path / "run", *SHORT)

    def test_no_good_image(self, tmp_path: Path) -> None:
        plates = write_scratched_plates(tmp_path / "plates", good=1, bad=40)
        words = ("--data", plates, *ANOMALY, "--arch", "cae", *SHORT, "--batch-size", 1)
        told = refuse(DataError, "train", *words, "--out", tmp_path / "run")
        assert "good parts among the" in told and "--good" in told
        assert not (tmp_path / "run").exists()

    def test_one_image(self, tmp_path: Path) -> None:
        plates = write_scratched_plates(tmp_path / "plates", good=1, bad=0)
        words = ("--data", plates, "--task", "anomaly", "--arch", "cae", *SHORT)
        assert "part(s)" in refuse(DataError, "train", *words, "--out", tmp_path / "run")

    def test_a_network_that_has_learnt_nothing(self, words: tuple[object, ...]) -> None:
        told = refuse(ExperimentError, *words, *ANOMALY, "--arch", "vit_tiny")
        assert "would be noise" in told and "--init" in told

    def test_classes_without_a_good_name(self, tmp_path: Path) -> None:
        plates = write_plates(tmp_path, size_hw=(32, 32), parts=20)
        words = ("--data", plates, "--task", "anomaly", "--target", "part", *SHORT)
        told = refuse(ExperimentError, "train", *words, "--out", tmp_path / "run")
        assert "--good NAME" in told

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--arch", "cae", "--beta", 3), "a CAE has no divergence"),
            (("--arch", "vae", "--beta", 3), "a VAE has beta 1"),
            (("--arch", "cae", "--score", "elbo"), "no ELBO"),
            (("--arch", "cae", "--good", "fine"), "give the one of good parts, or bring images"),
            (("--arch", "cae", "--unit", "mm"), "has the unit 1"),
            (("--arch", "cae", "--probe"), "train.probe"),
            (("--arch", "cae", "--label-share", 0.5), "train.label_share"),
            (("--arch", "cae", "--image-size", 30), "multiples of 8"),
            (("--arch", "cae", "--memory-patches", 3), "train.anomaly.memory_patches: 3;"),
        ],
    )
    def test_settings_that_mean_nothing(
        self, words: tuple[object, ...], more: tuple[object, ...], said: str
    ) -> None:
        assert said in refuse(ExperimentError, *words, *ANOMALY, *more)

    def test_good_classes_of_no_column(self, words: tuple[object, ...]) -> None:
        told = refuse(
            ExperimentError, *words, "--task", "anomaly", "--arch", "cae", "--good", "good"
        )
        assert "--target" in told

    def test_an_autoencoder_in_another_task(self, words: tuple[object, ...]) -> None:
        told = refuse(
            ExperimentError, *words, "--task", "classification", "--target", "class",
            "--arch", "vae",
        )  # fmt: skip
        assert "--task anomaly" in told

    def test_explaining_it(self, autoencoder: Path, plates: Path) -> None:
        told = refuse(ExperimentError, "explain", autoencoder, plates / "bad_0.png")
        assert "inspect --maps" in told


class TestFamilies:
    """What one kind of model is told and another would pass over."""

    @pytest.mark.parametrize(("option", "value"), [("score", "recon"), ("beta", 2.0)])
    def test_a_memory_has_no_setting_of_an_autoencoder(
        self, plates: Path, memory: Path, tmp_path: Path, option: str, value: object
    ) -> None:
        words = ("--data", plates, *ANOMALY, "--init", memory.parent / "pre", f"--{option}", value)
        told = refuse(ExperimentError, "train", *words, "--out", tmp_path / "run")
        assert f"train.anomaly.{option}: {value};" in told and "leave it away" in told

    def test_a_run_without_labels_is_not_cut(self, memory: Path, tmp_path: Path) -> None:
        words = ("slim", memory, "--mlp", 0.5, "--out", tmp_path / "run")
        told = refuse(ExperimentError, *words)
        assert told.startswith(f"train.slim.run: {memory} learnt from good parts alone")


class TestRescore:
    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("--limit", "nan", "train.limit: nan is not finite"),
            ("--limit", "inf", "train.limit: inf is not finite"),
            ("--gamma", "nan", "train.anomaly.gamma"),
            ("--gamma", "inf", "train.anomaly.gamma: inf is not finite"),
            ("--gamma", "-1", "train.anomaly.gamma"),
        ],
    )
    def test_a_number_that_cannot_be(
        self, autoencoder: Path, tmp_path: Path, option: str, value: str, said: str
    ) -> None:
        words = ("rescore", autoencoder, option, value, "--out", tmp_path / "run")
        assert said in refuse(ExperimentError, *words)
        assert not (tmp_path / "run").exists()

    def test_the_limit_of_before_belongs_to_the_score_of_before(
        self, plates: Path, tmp_path: Path
    ) -> None:
        words = ("--data", plates, *ANOMALY, "--arch", "cae", *SHORT, "--score", "recon")
        succeed("train", *words, "--epochs", 1, "--limit", 7, "--out", tmp_path / "run")
        words = ("rescore", tmp_path / "run", "--score", "gradcon")
        succeed(*words, "--out", tmp_path / "again")
        found = result_of(tmp_path / "again").anomaly
        assert found is not None
        assert found.scores["gradcon"].limit_rule == "best_f1"

    @pytest.mark.parametrize("file", ["best.pt", "last.ckpt"])
    def test_a_file_of_another_run(
        self, autoencoder: Path, memory: Path, tmp_path: Path, file: str
    ) -> None:
        shutil.copytree(autoencoder, tmp_path / "mixed")
        shutil.copy(memory / "best.pt", tmp_path / "mixed" / file)
        words = ("rescore", tmp_path / "mixed", "--out", tmp_path / "run")
        told = refuse(TrainerError, *words)
        assert f"mixed/{file}: is not this run's own" in told

    @pytest.mark.parametrize("file", ["best.pt", "last.ckpt", "result.json"])
    def test_a_damaged_file_is_one_line_with_a_remedy(
        self, autoencoder: Path, tmp_path: Path, file: str
    ) -> None:
        shutil.copytree(autoencoder, tmp_path / "torn")
        (tmp_path / "torn" / file).write_bytes(b"\x00torn")
        told = refuse(TrainerError, "rescore", tmp_path / "torn", "--out", tmp_path / "run")
        assert f"torn/{file}: damaged" in told and "train again" in told
        assert len(told.splitlines()) == 1 and "weights_only" not in told
