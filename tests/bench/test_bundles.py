"""How the measured models are made: by words that the verbs take, and kept where it was stopped."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import click
import pytest
from command_line import call, refuse, succeed
from tiny_suite import build_tiny_suite

from lineside.cli.main import lineside
from lineside.errors import InputDataError, StorageError
from lineside_bench.bundles import (
    RECIPES,
    MakingFault,
    pretraining_words,
    sealing_words,
    training_words,
)
from lineside_bench.suite import LIST_FILE, Suite, read_suite

QUICK = ("vit_tiny", "small_cnn", "beta_vae recon", "beta_vae gradcon")


def parsed(*told: object) -> dict[str, object]:
    """As the verb itself reads its words, which does nothing yet."""
    name, *words = map(str, told)
    verb = lineside.get_command(click.Context(lineside), name)
    assert verb is not None
    return verb.make_context(name, words).params


@pytest.mark.parametrize("model", RECIPES)
def test_each_model_is_made_by_words_that_the_verbs_take(model: str, tmp_path: Path) -> None:
    recipe = RECIPES[model]

    taken = parsed(*training_words(tmp_path, model, recipe, epochs=2))

    assert taken["out"] == tmp_path / model.replace(" ", "_")
    assert taken["resume"], "one that was stopped would be refused for ever"
    if recipe.rescore:
        assert (taken["run"], taken["score"]) == (tmp_path / "beta_vae_recon", recipe.score)
    else:
        assert (taken["data"], taken["epochs"]) == (tmp_path / "joints", 2 * recipe.longer)


def test_what_comes_before_and_after_are_words_that_the_verbs_take(tmp_path: Path) -> None:
    sealed = tmp_path / "vit_tiny_int8.lsb"

    begun = parsed(*pretraining_words(tmp_path))
    sealing = parsed(*sealing_words(tmp_path / "candidate", tmp_path, sealed, "int8"))

    (memory,) = (recipe for recipe in RECIPES.values() if recipe.pretrained)
    assert parsed(*training_words(tmp_path, "memory", memory, epochs=2))["init"] == begun["out"]
    assert (sealing["out"], sealing["precisions"]) == (sealed, "int8")


@pytest.fixture
def made(tmp_path: Path) -> Suite:
    """All of a quick suite but its list: runs that came to their end, and what was sealed."""
    named = [(model, form) for model in QUICK for form in ("fp32", "int8")]
    suite = build_tiny_suite(tmp_path / "suite", named)
    (suite.folder / LIST_FILE).unlink()
    work = suite.folder / "work"
    (work / "joints").mkdir(parents=True)
    (work / "joints" / "labels.csv").write_text("image,state\na.png,good\n", encoding="utf-8")
    shutil.copyfile(suite.folder / "tiny" / "tiny.key", work / "factory.key")
    shutil.copyfile(suite.key, work / "factory.pub")
    for model in QUICK:
        (work / model.replace(" ", "_")).mkdir()
        (work / model.replace(" ", "_") / "result.json").touch()
    return suite


def test_what_is_there_is_kept_and_listed(made: Suite) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.folder.glob("*.lsb")}

    told = succeed("measure", "bundles", "--quick", "--out", made.folder)

    assert "$ lineside" not in told.stderr
    assert "8 sealed models" in told.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    suite = read_suite(made.folder)
    assert [(one.model, one.form) for one in suite.sealed] == [
        (model, form) for model in QUICK for form in ("fp32", "int8")
    ]
    gradcon = suite.pick("beta_vae gradcon", "int8")
    assert (gradcon.kind, gradcon.score) == ("anomaly", "gradcon")
    for one in suite.sealed:
        suite.open(one).close()


def test_what_is_missing_is_made_and_a_verb_that_fails_ends_it(made: Suite) -> None:
    """Key and images are made here; the exporter finds no candidate in the run that it takes."""
    shutil.rmtree(made.folder / "work" / "joints")
    for path in (*made.folder.glob("work/factory.*"), *made.folder.glob("*.lsb"), made.key):
        path.unlink()
    words = ("measure", "bundles", "--quick", "--parts", 30, "--out", made.folder)

    assert refuse(MakingFault, *words) == "lineside export ended with exit code 3, see above"

    # Nobody takes half a suite for a whole one.
    assert LIST_FILE in refuse(InputDataError, "measure", "latency", made.folder)
    assert made.key.read_bytes() == (made.folder / "work" / "factory.pub").read_bytes()
    with (made.folder / "work" / "joints" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150
    for row in rows:
        assert row["state"] == ("good" if float(row["delta_b_max"]) < 0.2 else "bad")
    assert {row["state"] for row in rows} == {"good", "bad"}


def test_a_suite_whose_key_stayed_behind_is_left_as_it_is(made: Suite) -> None:
    shutil.rmtree(made.folder / "work")
    before = made.key.read_bytes()

    assert "factory.key" in refuse(InputDataError, "measure", "bundles", "--out", made.folder)

    assert made.key.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert call("measure", "bundles", "--out", tmp_path / "file").exit_code == 2
    refuse(StorageError, "measure", "bundles", "--out", tmp_path / "file" / "suite")


def test_too_few_parts_for_one_batch_are_refused(tmp_path: Path) -> None:
    told = call("measure", "bundles", "--out", tmp_path / "suite", "--parts", 29)

    assert (told.exit_code, "30" in told.stderr) == (2, True)
    assert not (tmp_path / "suite").exists()
