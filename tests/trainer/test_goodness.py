"""Bad parts leave the training fold, whole; what a limit needs is known before any training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scratched_plates import write_scratched_plates

from lineside_trainer.anomaly.goodness import (
    Goodness,
    check_goodness,
    find_goodness,
    spare_bad_parts,
)
from lineside_trainer.errors import DataError
from lineside_trainer.experiment_file import convert_experiment
from lineside_trainer.prepared import Prepared, prepare_data


def prepared(
    folder: Path, rows: list[tuple[str, str, str]], **more: str
) -> tuple[Prepared, Goodness]:
    """Images with these rows of file, part and class."""
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "part", "class"), *rows])
    data = {"folder": str(folder), "group": "part", "image_size_hw": [32, 32], **more}
    table = {
        "data": data,
        "train": {"task": "anomaly", "target": "class"},
        "model": {"arch": "cae"},
    }
    experiment = convert_experiment(table, source="test")
    found = prepare_data(experiment, target="class", folder=folder)
    return found, find_goodness(found, experiment.train)


@pytest.mark.parametrize("seen", [False, True])
def test_a_bad_part_goes_with_its_unlabelled_images(tmp_path: Path, seen: bool) -> None:
    """Else its other half would be left in the training fold, and a part be in two sets."""
    write_scratched_plates(tmp_path, good=60, bad=40)
    rows = [(f"good_{i}.png", f"g{i}", "good") for i in range(60)]
    rows += [(f"bad_{i}.png", f"b{i // 2}", "scratch" if i % 2 else "") for i in range(40)]
    before, goodness = prepared(tmp_path, rows)
    fold = before.split.fold("training")
    assert len(goodness.bad_rows(fold)) > 5
    after = spare_bad_parts(before, goodness, seen=seen)
    parts, sets = after.table.parts, after.split.indices
    learnt, judged = set(parts[after.split.fold("training")]), set(parts[sets["validation"]])
    assert not learnt & judged
    left = goodness.bad_rows(after.split.fold("training"))
    assert (len(left) > 5) is seen
    assert not len(goodness.bad_rows(sets["quantisation"]))
    everything = np.sort(np.concatenate(list(sets.values())))
    assert len(everything) == len(np.unique(everything))


def test_a_bad_part_with_good_images_stays_and_is_not_learnt_from(tmp_path: Path) -> None:
    write_scratched_plates(tmp_path, good=60, bad=40)
    rows = [(f"good_{i}.png", f"p{i}", "good") for i in range(60)]
    rows += [(f"bad_{i}.png", f"p{i}", "scratch") for i in range(40)]
    before, goodness = prepared(tmp_path, rows)
    after = spare_bad_parts(before, goodness, seen=False)
    assert np.array_equal(after.split.fold("validation"), before.split.fold("validation"))
    assert "their parts have good images" in after.split.notes[-1]
    assert not len(goodness.bad_rows(after.split.indices["quantisation"]))


def test_a_limit_takes_two_good_parts_and_says_so_before_training(tmp_path: Path) -> None:
    """Two images of one good part passed, and the run ended after hours, at its limit."""
    write_scratched_plates(tmp_path, good=40, bad=0)
    names = ["train"] * 30 + ["val"] * 6 + ["test"] * 4
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [
            (f"good_{i}.png", "one" if name == "val" else f"p{i}", "good", name)
            for i, name in enumerate(names)
        ]
        csv.writer(file).writerows([("file", "part", "class", "fold"), *rows])
    data = {"folder": str(tmp_path), "group": "part", "split_column": "fold"}
    table = {"data": data, "train": {"task": "anomaly", "target": "class"}}
    experiment = convert_experiment(table, source="test")
    found = prepare_data(experiment, target="class", folder=tmp_path)
    goodness = find_goodness(found, experiment.train)
    with pytest.raises(DataError, match="hold 1 good part: a limit needs 2"):
        check_goodness(found, goodness)
