"""`lineside study`: a small one with real runs, stopped, gone on with, and a row that fails."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bright_plates import write_plates
from click.testing import CliRunner

from lineside.cli.main import lineside
from lineside_trainer.errors import ExperimentError
from lineside_trainer.runs.runfolder import RESULT
from lineside_trainer.study.document import Line, StudyFigures
from lineside_trainer.study.figures import gather
from lineside_trainer.study.plan import Asked, Plan, make_plan
from lineside_trainer.study.running import run_study

PARTS = 24

STUDY = """
title = "Trial"
about = "A small one."
data_set = "plates"
seeds = [0, 1]
split_seeds = [3, 4]
reference = "mae"

[data_sets.plates]
group = "part"

[common]
data.image_size_hw = [16, 16]
model.patch_px = 8
train.target = "damage"
train.head_width = 16
train.fit = { epochs = 1, batch_size = 8 }
pretrain.fit = { epochs = 1, batch_size = 8 }
pretrain.mae = { decoder_depth = 1, decoder_width = 12 }
run.device = "cpu"
run.checkpoint_every_steps = 1

[[pretraining]]
name = "mae"

[[row]]
name = "mae"
label = "ViT | MAE"
init = "mae"
train.fit.lr = 3e-4

[[row]]
name = "broken"
label = "a rate that cannot be"
arch = "sam_cnn"
train.fit = { lr = 1e30, epochs = 2, grad_clip = 0.0, warmup_share = 0.0 }

[[row]]
name = "imagenet"
weights = "nowhere.pth"
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a part; the target is their brightness."""
    return write_plates(tmp_path_factory.mktemp("plates"), size_hw=(16, 16), parts=PARTS)


def write_study(folder: Path, text: str = STUDY) -> Path:
    file = folder / "study.toml"
    file.write_text(text)
    return file


def plan_of(file: Path, out: Path, images: Path, factor: float = 1.0) -> Plan:
    data = {"plates": images}
    return make_plan(Asked(file=file, out=out, data=data, epochs_factor=factor))


def run(plan: Plan, *only: str) -> tuple[StudyFigures, list[str]]:
    said: list[str] = []
    pieces = plan.chosen(only, ())
    return run_study(plan, pieces, processes=0, devices=0, say=said.append), said


def line_of(figures: StudyFigures, name: str) -> Line:
    (line,) = [line for line in figures.lines if line.name == name]
    return line


def without_times(out: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((out / "table.csv").open()))
    return [{k: v for k, v in row.items() if not k.endswith("minutes")} for row in rows]


@pytest.fixture(scope="module")
def done(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Plan, StudyFigures, list[str]]]:
    """All of it, once; tests that change files take copies of their own."""
    folder = tmp_path_factory.mktemp("study")
    plan = plan_of(write_study(folder), folder / "out", images)
    yield (plan, *run(plan))


def test_every_row_has_its_seeds_beside_the_trivial_ones(
    done: tuple[Plan, StudyFigures, list[str]],
) -> None:
    plan, figures, _ = done
    assert [line.name for line in figures.lines] == [
        *("mae", "broken", "imagenet", "handmade", "baseline")
    ]
    mae, handmade, mean = (line_of(figures, name) for name in ("mae", "handmade", "baseline"))
    assert mae.test and handmade.test and mean.test and mae.ratio and handmade.ratio
    assert mae.seeds == handmade.seeds == mean.seeds == [0, 1]
    assert mae.parameters > 5_000_000 and handmade.parameters == 0
    results = [json.loads((p.folder / RESULT).read_text()) for p in plan.pieces if p.name == "mae"]
    tuned = [one for one in results if "test" in one]
    assert mae.test.values == [one["test"]["mse"]["value"] for one in tuned]
    # The mean predictor was judged twice, by the rows' own runs and beside the hand-made one.
    assert mean.test.values == pytest.approx([one["baseline"]["mse"]["value"] for one in tuned])
    ratios = [a / b for a, b in zip(mae.test.values, mean.test.values, strict=True)]
    assert mae.ratio.values == pytest.approx(ratios)
    assert mae.ratio.mean == pytest.approx(sum(ratios) / 2)
    # Brightness is the target: the hand-made features hold it, one epoch does not find it.
    assert handmade.ratio.mean < 0.1
    assert handmade.to_best_percent == 0.0 and mae.to_best_percent
    assert {one["run"]["split_seed"] for one in tuned} == {3, 4}
    assert {one["run"]["seed"] for one in tuned} == {0, 1}


def test_differences_are_paired_by_test_image(done: tuple[Plan, StudyFigures, list[str]]) -> None:
    plan, figures, _ = done
    found = line_of(figures, "handmade").to_reference
    mae, handmade = line_of(figures, "mae").test, line_of(figures, "handmade").test
    assert found and mae and handmade
    assert found.value == pytest.approx(handmade.mean - mae.mean)
    assert found.low < found.value < found.high < 0.0
    assert (found.seeds, found.drawn_by, found.confidence) == (2, "part", 0.95)
    tested = set()
    for seed in (0, 1):
        split = json.loads((plan.asked.out / f"rows/mae/share-1/seed{seed}/split.json").read_text())
        tested |= {name.split("_")[0] for name in split["files"]["test"]}
    assert found.drawn == len(tested)  # a part that two splits test is one part
    assert line_of(figures, "mae").to_reference is None


def test_while_seeds_are_missing_the_best_is_compared_on_those_that_both_have(
    done: tuple[Plan, StudyFigures, list[str]], images: Path, tmp_path: Path
) -> None:
    whole, figures, _ = done
    shutil.copytree(whole.asked.out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/rows/mae/share-1/seed0")
    found = gather(plan_of(whole.asked.file, tmp_path / "out", images), "lineside study")
    mae, best = line_of(found, "mae"), line_of(found, "handmade")
    assert mae.seeds == [1] and best.seeds == [0, 1]
    assert mae.test and best.test and mae.to_best_percent is not None
    theirs = best.test.values[1]
    assert theirs != pytest.approx(best.test.mean)  # or the means over unlike seeds would pass
    assert mae.to_best_percent == pytest.approx(100.0 * (mae.test.mean - theirs) / theirs)
    every = line_of(figures, "mae")
    assert every.test and every.to_best_percent == pytest.approx(
        100.0 * (every.test.mean - best.test.mean) / best.test.mean
    )


def test_a_row_that_fails_or_misses_weights_is_shown_and_the_others_go_on(
    done: tuple[Plan, StudyFigures, list[str]],
) -> None:
    plan, figures, said = done
    broken, imagenet = line_of(figures, "broken"), line_of(figures, "imagenet")
    assert broken.test is None and imagenet.test is None
    assert broken.note.startswith("failed (seed 0, 1): ") and "--lr" in broken.note
    assert imagenet.note.startswith("missing (seed 0, 1): no file nowhere.pth")
    assert any(line.startswith("[7/10] rows/broken/share-1/seed0: failed: ") for line in said)
    page = (plan.asked.out / "table.md").read_text()
    assert "ViT \\| MAE" in page and broken.note in page and "## Validation" in page
    assert "A small one." in page
    assert (plan.asked.out / "table.png").read_bytes().startswith(b"\x89PNG")


def test_the_document_says_how_each_figure_is_made_again(
    done: tuple[Plan, StudyFigures, list[str]],
) -> None:
    plan, _, _ = done
    told = json.loads((plan.asked.out / "study.json").read_text())
    pieces = {piece["id"]: piece for piece in told["pieces"]}
    one = pieces["rows/mae/share-1/seed1"]
    assert one["command"] == (
        "lineside train --config rows/mae/share-1/seed1.toml --out rows/mae/share-1/seed1 --resume"
    )
    assert (plan.asked.out / "rows/mae/share-1/seed1.toml").exists()
    assert len(one["data_sha256"]) == 64 and "torch" in one["versions"] and one["machine"]
    assert (one["seed"], one["split_seed"], one["epochs"]) == (1, 4, 1)
    assert one["validation"] > 0
    # On its images, by its own choice, the run found the very same figure.
    result = json.loads((plan.asked.out / "rows/mae/share-1/seed1/result.json").read_text())
    assert one["validation"] == pytest.approx(result["run"]["validation"]["best"], rel=1e-5)
    assert pieces["rows/broken/share-1/seed0"]["state"] == "failed"
    assert pieces["rows/imagenet/share-1/seed0"]["state"] == "missing"


def test_what_is_finished_is_kept_and_what_failed_is_tried_again(
    done: tuple[Plan, StudyFigures, list[str]],
) -> None:
    plan, figures, _ = done
    kept = {
        p.folder: (p.folder / RESULT).stat().st_mtime_ns for p in plan.pieces if p.name == "mae"
    }
    again, said = run(plan)
    assert {f: (f / RESULT).stat().st_mtime_ns for f in kept} == kept
    begun = [line for line in said if line.endswith("epochs")]
    assert [line.split(" ")[1] for line in begun] == [
        *("rows/broken/share-1/seed0:", "rows/broken/share-1/seed1:")
    ]
    assert again.lines == figures.lines


def test_a_changed_setting_is_refused_by_name_before_anything_runs(
    done: tuple[Plan, StudyFigures, list[str]], images: Path, tmp_path: Path
) -> None:
    plan, _, _ = done
    out = plan.asked.out
    changed = write_study(tmp_path, STUDY.replace("lr = 3e-4", "lr = 2e-4"))
    with pytest.raises(ExperimentError, match=r"rows/mae/share-1/seed0: train\.fit\.lr differs"):
        run(plan_of(changed, out, images))
    with pytest.raises(ExperimentError, match=r"pretrain/mae/seed0: pretrain\.fit\.epochs differs"):
        run(plan_of(plan.asked.file, out, images, factor=5.0))
    with pytest.raises(ExperimentError, match=r"data\.folder differs"):
        run(plan_of(plan.asked.file, out, tmp_path))
    # What only pre-trainings read concerns no row that starts from noise, and the other way round.
    probe = STUDY.replace("decoder_depth = 1", "decoder_depth = 2")
    with pytest.raises(ExperimentError, match=r"pretrain/mae/seed0: pretrain\.mae\.decoder_depth"):
        run(plan_of(write_study(tmp_path, probe), out, images))


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.02)


def wait_for_lock(path: Path) -> None:
    """The child was killed with its parent, but nobody can wait for its end."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_killed_and_called_again_it_ends_with_the_same_table(
    done: tuple[Plan, StudyFigures, list[str]], images: Path, tmp_path: Path
) -> None:
    plan, _, _ = done
    out = tmp_path / "out"
    call = "from lineside.cli.main import main; main()"
    arguments = ["study", str(plan.asked.file), "--out", str(out), "--data", str(images)]
    process = subprocess.Popen(
        [sys.executable, "-c", call, *arguments, "--only", "mae", "--seeds", "0"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # In a process of its own, the pre-training has done a step at least; then the power goes.
    wait_for(out / "pretrain/mae/seed0/last.ckpt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_lock(out / "pretrain/mae/seed0.lock")
    assert not (out / "pretrain/mae/seed0" / RESULT).exists()
    run(plan_of(plan.asked.file, out, images))
    assert without_times(out) == without_times(plan.asked.out)


def test_a_child_that_fails_is_told_in_its_words_and_its_row_waits_for_the_next_call(
    images: Path, tmp_path: Path
) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    # A file where its folder should be: the child ends with the error that it has words for.
    (out / "pretrain/mae").mkdir(parents=True)
    (out / "pretrain/mae/seed0").write_text("")
    result = CliRunner().invoke(
        lineside,
        [
            *("study", str(file), "--out", str(out), "--data", f"plates={images}"),
            *("--only", "mae", "--seeds", "0", "--json"),
        ],
    )
    assert result.exit_code == 1, (result.output, result.exception)
    pieces = {piece["id"]: piece for piece in json.loads(result.stdout)["pieces"]}
    assert pieces["pretrain/mae/seed0"]["state"] == "failed"
    assert "exists already" in pieces["pretrain/mae/seed0"]["why"]
    assert "rows/mae/share-1/seed0: left: its pre-training mae is not done" in result.stderr
    assert pieces["pretrain/mae/seed1"]["state"] == "to do"


def test_what_another_process_has_is_waited_for_and_taken_over_where_it_gave_up(
    images: Path, tmp_path: Path
) -> None:
    plan = plan_of(write_study(tmp_path), tmp_path / "out", images)
    pieces = plan.chosen(["trivial"], [0])
    path = tmp_path / "out/trivial/share-1/seed0.lock"
    path.parent.mkdir(parents=True)
    said: list[str] = []
    with path.open("wb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)

        def say(words: str) -> None:
            said.append(words)
            if words.endswith("another process has it"):
                fcntl.flock(theirs, fcntl.LOCK_UN)

        run_study(plan, pieces, processes=1, devices=0, say=say)
    assert said == [
        "trivial/share-1/seed0: another process has it",
        "[1/1] trivial/share-1/seed0: 1 epochs",
        "[1/1] trivial/share-1/seed0: done",
    ]


def test_the_trivial_lines_take_images_that_a_network_would_refuse(
    images: Path, tmp_path: Path
) -> None:
    """Smaller than what they are scaled to, and fewer than a batch."""
    text = STUDY.replace("[16, 16]", "[32, 32]").replace("batch_size = 8", "batch_size = 64")
    plan = plan_of(write_study(tmp_path, text), tmp_path / "out", images)
    figures, _ = run(plan, "trivial")
    assert line_of(figures, "handmade").seeds == [0, 1]


def test_terminated_it_takes_its_children_along(
    done: tuple[Plan, StudyFigures, list[str]], images: Path, tmp_path: Path
) -> None:
    plan, _, _ = done
    out = tmp_path / "out"
    call = "from lineside.cli.main import main; main()"
    arguments = ["study", str(plan.asked.file), "--out", str(out), "--data", str(images)]
    process = subprocess.Popen(
        [sys.executable, "-c", call, *arguments, "--only", "mae", "--seeds", "0"],
        stderr=subprocess.PIPE,
    )
    wait_for(out / "pretrain/mae/seed0.log", process)
    process.terminate()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130 and told.endswith(b"lineside: interrupted\n")
    # Free at once: nobody is left who holds it.
    with (out / "pretrain/mae/seed0.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_classes_are_compared_by_average_precision_and_accuracy(
    images: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(images, data)
    rows = list(csv.reader((data / "labels.csv").open()))
    with (data / "labels.csv").open("w", newline="") as file:
        kinds = ["kind", *("good" if float(row[2]) < 1.1 else "bright" for row in rows[1:])]
        csv.writer(file).writerows([*row, kind] for row, kind in zip(rows, kinds, strict=True))
    text = STUDY.replace('target = "damage"', 'task = "classification"\ntrain.target = "kind"')
    text = text.replace("seeds = [0, 1]\nsplit_seeds = [3, 4]", "seeds = [0]")
    plan = plan_of(write_study(tmp_path, text), tmp_path / "out", data)
    figures, _ = run(plan, "mae", "trivial")
    assert (figures.metric, figures.lower_is_better) == ("average_precision", False)
    mae, handmade, most = (line_of(figures, name) for name in ("mae", "handmade", "baseline"))
    assert mae.test and handmade.test and most.test and handmade.to_reference
    # Brightness decides, and is one of the hand-made features.
    assert handmade.test.mean > 0.95 > most.test.mean
    assert handmade.others["accuracy"].mean > 0.8 > most.others["accuracy"].mean
    assert handmade.to_reference.value == pytest.approx(handmade.test.mean - mae.test.mean)
    assert mae.validation and 0.0 < mae.validation.mean <= 1.0
    best = max(handmade.test.mean, mae.test.mean)
    assert mae.to_best_percent == pytest.approx(100.0 * (best - mae.test.mean) / best, abs=1e-9)
    page = (tmp_path / "out/table.md").read_text()
    assert "| test average precision | accuracy | balanced accuracy |" in page
    assert "÷ most frequent class" in page


def test_a_dry_run_counts_and_writes_nothing(images: Path, tmp_path: Path) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    call = ["study", str(file), "--out", str(out), "--data", str(images), "--dry-run"]
    told = CliRunner().invoke(lineside, [*call, "--json", "--epochs-factor", "3"])
    assert told.exit_code == 0, (told.output, told.exception)
    document = json.loads(told.stdout)
    pieces = {piece["id"]: piece for piece in document["pieces"]}
    assert pieces["rows/mae/share-1/seed0"]["epochs"] == 3
    # 60 % of 48, less the quantisation samples' tenth, by whole parts of two.
    assert pieces["rows/mae/share-1/seed0"]["images"] in range(24, 29)
    assert pieces["rows/imagenet/share-1/seed0"]["missing"]
    assert document["image_passes_left"] == sum(
        piece["image_passes"] for piece in document["pieces"] if not piece["missing"]
    )
    assert CliRunner().invoke(lineside, call).output.count("\n") == 2 + 10 + 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr = 3e-4", "lrr = 3e-4", r"mae: train\.fit\.lrr: unknown setting"),
        ('init = "mae"', 'init = "simsiam"', r"row mae: init: 'simsiam' is unknown; there are mae"),
        ('reference = "mae"', 'reference = "x"', r"reference: 'x' is unknown; there are mae, "),
        ("split_seeds = [3, 4]", "split_seeds = [3]", r"split_seeds: 1 for 2 seeds"),
        ('name = "broken"', 'name = "mae"', r"row: mae is there twice"),
        ('name = "broken"', 'name = "../x"', r"'\.\./x' is no name for a folder"),
        ('arch = "sam_cnn"', 'arch = "sam_cmn"', r"broken: model\.arch: 'sam_cmn' is unknown"),
        ('target = "damage"', 'targets = "damage"', r"common: train\.targets: unknown"),
        ('run.device = "cpu"', "run.seeds = 3", r"common: run\.seeds: say seeds instead"),
        ('init = "mae"', 'train.init = "x"', r"row mae: train\.init: say init instead"),
        ('weights = "nowhere.pth"', "pretrain.method = 'mae'", r"unknown field `pretrain`"),
        ("[16, 16]", "[16, 12]", r"mae: .*12"),
        ('data_set = "plates"', 'data_set = "tiles"', r"data_set: 'tiles' is unknown"),
        (
            'init = "mae"',
            'at_share."0.5".train.probe = true',
            r"'0\.5' is none of the label shares",
        ),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_its_place(
    images: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in STUDY
    file = write_study(tmp_path, STUDY.replace(old, new, 1))
    call = ["study", str(file), "--out", str(tmp_path / "out"), "--data", str(images)]
    result = CliRunner().invoke(lineside, call)
    assert isinstance(result.exception, ExperimentError), (result.output, result.exception)
    with pytest.raises(ExperimentError, match=words):
        raise result.exception
    assert not (tmp_path / "out/rows").exists()


def test_shares_take_their_own_settings_and_foreign_images_their_own_split(
    images: Path, tmp_path: Path
) -> None:
    text = STUDY.replace("split_seeds", "label_shares = [1.0, 0.5]\nsplit_seeds").replace(
        '[[pretraining]]\nname = "mae"\n',
        '[at_share."0.5".train.fit]\nepochs = 7\nlr = 5e-5\n'
        "[data_sets.joints]\nsynthetic = { parts = 5 }\n"
        '[[pretraining]]\nname = "mae"\ndata_set = "joints"\narch = "vit_small"\n',
    )
    plan = plan_of(write_study(tmp_path, text), tmp_path / "out", images)
    pieces = {piece.id: piece for piece in plan.pieces}
    whole, half = (pieces[f"rows/mae/share-{share}/seed1"].experiment for share in ("1", "0.5"))
    assert (whole.train.fit.epochs, half.train.fit.epochs) == (1, 7)
    assert (whole.train.label_share, half.train.label_share) == (1.0, 0.5)
    assert half.train.fit.lr == 3e-4  # the row's own word stands above the share's
    assert pieces["rows/broken/share-0.5/seed0"].experiment.train.fit.epochs == 2
    assert whole.model.arch == "vit_small"  # taken over from what it starts from
    before = pieces["pretrain/mae/seed1"].experiment
    assert before.data.folder == str((tmp_path / "out/data/joints").resolve())
    assert (before.data.split_seed, whole.data.split_seed) == (0, 4)
    assert (before.data.group, whole.data.group) == ("", "part")
    assert whole.train.init == str(pieces["pretrain/mae/seed1"].folder)
