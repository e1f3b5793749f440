"""`lineside dataset joints`: a folder that repeats to the byte and never eats anybody's files."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from lineside.errors import StorageError
from lineside_trainer.cli.dataset import dataset
from lineside_trainer.data import read_table, split_table
from lineside_trainer.data.joints import JointsSettings, write_joints
from lineside_trainer.data.joints.folder import COLUMNS
from lineside_trainer.errors import DataError

SMALL = JointsSettings(parts=6, seed=7, size_px=32)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def joints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joints") / "out"
    write_joints(out, SMALL)
    return out


def test_the_same_settings_give_the_same_bytes(joints: Path, tmp_path: Path) -> None:
    write_joints(tmp_path / "again", SMALL)
    assert digests(tmp_path / "again") == digests(joints)
    assert len(digests(joints)) == 6 * 5 * 3 + 3


def test_part_k_is_the_same_in_a_larger_set(joints: Path, tmp_path: Path) -> None:
    write_joints(tmp_path / "more", JointsSettings(parts=8, seed=7, size_px=32))
    more = digests(tmp_path / "more")
    pictures = {name: digest for name, digest in digests(joints).items() if name.endswith(".png")}
    assert pictures.items() <= more.items()
    small, large = ((folder / "labels.csv").read_text() for folder in (joints, tmp_path / "more"))
    assert large.startswith(small)


def test_another_seed_gives_other_pictures(joints: Path, tmp_path: Path) -> None:
    write_joints(tmp_path / "other", JointsSettings(parts=6, seed=8, size_px=32))
    first, other = digests(joints), digests(tmp_path / "other")
    images = [name for name in first if name.startswith("images/")]
    assert all(first[name] != other[name] for name in images)


def test_the_table_says_what_it_promises(joints: Path) -> None:
    with (joints / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 30
    for row in rows:
        assert all((joints / row[name]).is_file() for name in ("file", "crack_mask", "void_mask"))
        if row["cycles"] == "0":
            assert float(row["delta_b_max"]) == 0.0
            assert float(row["crack_area_fraction"]) == 0.0
            crack = cv2.imread(str(joints / row["crack_mask"]), cv2.IMREAD_UNCHANGED)
            assert crack.max() == 0


def test_the_trainer_reads_it_strictly_and_splits_it_by_part(joints: Path) -> None:
    table = read_table(joints, target="delta_b_max", group="part", strict=True)
    assert (len(table), table.frame.size_hw, table.frame.channels) == (30, (32, 32), 1)
    assert table.rejected == ()
    assert len(split_table(table, seed=0).indices["test"]) >= 5


def test_an_earlier_output_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_joints(out, JointsSettings(parts=3, seed=1, size_px=32))
    write_joints(out, JointsSettings(parts=2, seed=1, size_px=32))
    assert len(list((out / "images").iterdir())) == 10
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["precious.txt", "labels.csv", "images"])
def test_a_folder_with_anything_else_is_refused_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(DataError, match=rf"holds {name}.*name an empty folder"):
        write_joints(tmp_path / "out", SMALL)
    assert digests(tmp_path / "out") == {name: hashlib.sha256(b"mine").hexdigest()}


@pytest.mark.parametrize("name", ["notes.txt", "images/a.png", "masks/notes.txt"])
def test_an_earlier_output_with_a_file_of_the_users_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    write_joints(out, JointsSettings(parts=1, seed=1, size_px=32))
    (out / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds {name}"):
        write_joints(out, SMALL)
    assert (out / name).read_text() == "mine"


def test_a_file_in_the_way_and_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is a file"):
        write_joints(tmp_path / "file", SMALL)
    with pytest.raises(StorageError, match="Not a directory"):
        write_joints(tmp_path / "file" / "out", SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": 0}, "parts 0: between 1 and"),
        ({"seed": -1}, "seed -1"),
        ({"size_px": 8}, "size 8: between 32 and 512"),
    ],
)
def test_impossible_numbers_are_refused(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    wanted = JointsSettings(**{"parts": 1, "seed": 0, "size_px": 32, **change})
    with pytest.raises(DataError, match=message):
        write_joints(tmp_path / "out", wanted)
    assert list(tmp_path.iterdir()) == []


def test_the_verb_prints_one_json_document(tmp_path: Path) -> None:
    arguments = ["joints", str(tmp_path / "out"), "--parts", "4", "--size", "32", "--json"]
    result = CliRunner().invoke(dataset, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert (said["images"], said["parts"], said["seed"]) == (20, 4, 7)
    assert (tmp_path / "out" / "README.md").read_text().count("--seed 7") == 1


def test_the_verb_speaks_to_people(tmp_path: Path) -> None:
    arguments = ["joints", str(tmp_path / "out"), "--parts", "2", "--size", "32"]
    result = CliRunner().invoke(dataset, arguments, catch_exceptions=False)
    assert "10 images of 2 parts" in result.stdout


def test_help_needs_neither_torch_nor_opencv() -> None:
    """`lineside --help` imports every verb's module: it must stay light."""
    program = (
        "import sys, lineside_trainer.cli.dataset; "
        "print([name for name in ('torch', 'cv2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
