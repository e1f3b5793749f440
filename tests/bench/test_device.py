"""Every measurement of a device in one file: made by the real verbs, each in its own process."""

from __future__ import annotations

import contextlib
import json
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import call, refuse, succeed
from tiny_suite import build_tiny_suite

from lineside.bundle import make_thin_copy
from lineside.errors import (
    BundleError,
    InputDataError,
    KeyFileError,
    LinesideError,
    StorageError,
)
from lineside_bench.device import MeasuringFault
from lineside_bench.suite import KEY_FILE, LIST_FILE, SIDES_FOLDER, Suite, encode_list


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """What `scaling` takes, and `line` does not: that asks for eight bits. For one engine, as it
    is carried to a small device."""
    made = build_tiny_suite(tmp_path / "suite", [("vit_tiny", "fp32")])
    path = made.path(made.sealed[0])
    with made.open(made.sealed[0]) as bundle:
        thin = make_thin_copy(bundle, tmp_path / "thin.lsb", engine="onnxruntime")
    thin.replace(path)
    return made


@pytest.fixture
def strange_suite(tmp_path: Path) -> Suite:
    """Whole, and of no use to `line` and `scaling`, which say so at once."""
    return build_tiny_suite(tmp_path / "suite", [("small_cnn", "fp32")])


def unpack(packed: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(packed) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@contextlib.contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """The kernel refuses larger files (EFBIG), as a full disk does with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_measured_is_packed_and_what_failed_says_why(suite: Suite, tmp_path: Path) -> None:
    packed = tmp_path / "made on the way" / "device.zip"
    asked = ("--only", "line", "--only", "scaling", "--quick", "--out", packed)

    told = succeed("measure", "device", suite.folder, *asked)

    assert told.stdout == f"{packed}: scaling; without line\n"
    files = unpack(packed)
    assert set(files) == {"device.json", "scaling.json", "scaling.png"}
    head: dict[str, Any] = json.loads(files["device.json"])
    assert list(head["failed"]) == ["line"]
    assert "no vit_tiny/int8 among vit_tiny/fp32" in head["failed"]["line"]
    assert head["failed"]["line"] in told.stderr
    scaling = json.loads(files["scaling.json"])
    series = {row["series"] for row in scaling["rows"]["frame"]}
    assert series == {"onnxruntime fp32", "preparing alone"}
    assert (scaling["machine"], scaling["versions"]) == (head["machine"], head["versions"])
    assert files["scaling.png"].startswith(b"\x89PNG")
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]


def test_where_all_failed_the_words_are_packed_and_the_verb_fails(
    strange_suite: Suite, tmp_path: Path
) -> None:
    packed = tmp_path / "device.zip"
    packed.write_bytes(b"of last week" * 1000)
    asked = ("--only", "scaling", "--only", "line", "--quick", "--out", packed)

    words = refuse(MeasuringFault, "measure", "device", strange_suite.folder, *asked)

    assert str(packed) in words
    files = unpack(packed)
    assert set(files) == {"device.json"}
    failed = json.loads(files["device.json"])["failed"]
    # In the order in which a device is measured, whatever was asked for first.
    assert list(failed) == ["line", "scaling"]
    assert all("no vit_tiny" in said for said in failed.values())


def cut_bundle(suite: Suite) -> None:
    path = suite.path(suite.sealed[0])
    path.write_bytes(path.read_bytes()[:-1])


def change_bundle(suite: Suite) -> None:
    path = suite.path(suite.sealed[0])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_bundle(suite: Suite) -> None:
    suite.path(suite.sealed[0]).unlink()


def cut_side(suite: Suite) -> None:
    cut_bundle(build_tiny_suite(suite.folder / SIDES_FOLDER, [("vit_tiny 16 px", "fp32")]))


def lose_key(suite: Suite) -> None:
    (suite.folder / KEY_FILE).unlink()


def lose_list(suite: Suite) -> None:
    (suite.folder / LIST_FILE).unlink()


def empty_list(suite: Suite) -> None:
    (suite.folder / LIST_FILE).write_bytes(encode_list([]))


def cut_list(suite: Suite) -> None:
    path = suite.folder / LIST_FILE
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("damage", "kind", "named"),
    [
        (cut_bundle, BundleError, "vit_tiny_fp32.lsb"),
        (change_bundle, BundleError, "vit_tiny_fp32.lsb"),
        (lose_bundle, BundleError, "vit_tiny_fp32.lsb"),
        (cut_side, BundleError, f"{SIDES_FOLDER}/vit_tiny_16_px_fp32.lsb"),
        (lose_key, KeyFileError, KEY_FILE),
        (lose_list, InputDataError, LIST_FILE),
        (empty_list, InputDataError, LIST_FILE),
        (cut_list, InputDataError, LIST_FILE),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_suite_that_came_damaged_is_refused_before_anything_is_measured(
    suite: Suite,
    tmp_path: Path,
    damage: Callable[[Suite], None],
    kind: type[LinesideError],
    named: str,
) -> None:
    damage(suite)
    packed = tmp_path / "device.zip"

    assert named in refuse(kind, "measure", "device", suite.folder, "--out", packed)
    assert not packed.exists()


def test_a_suite_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    told = call("measure", "device", tmp_path / "suite", "--out", tmp_path / "device.zip")

    assert told.exit_code == 2
    assert f"'{tmp_path / 'suite'}' does not exist" in told.stderr


def test_a_place_that_takes_no_file_is_told_before_anything_is_measured(
    strange_suite: Suite, tmp_path: Path
) -> None:
    """All four measurements are asked for: one that began would be heard, and fail otherwise."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    verb = ("measure", "device", strange_suite.folder, "--out")

    assert call(*verb, tmp_path / "folder").exit_code == 2
    assert "cannot be made" in refuse(StorageError, *verb, tmp_path / "file" / "device.zip")
    with file_size_limit(0):
        assert "cannot be written" in refuse(StorageError, *verb, tmp_path / "device.zip")
    assert not (tmp_path / "device.zip").exists()


def test_a_disk_that_fills_up_leaves_the_file_of_last_time(
    strange_suite: Suite, tmp_path: Path
) -> None:
    packed = tmp_path / "device.zip"
    packed.write_bytes(b"of last week")
    asked = ("--only", "line", "--out", packed)

    with file_size_limit(100):  # enough for a trial, and for no document
        refuse(StorageError, "measure", "device", strange_suite.folder, *asked)

    assert packed.read_bytes() == b"of last week"
    assert {path.name for path in tmp_path.iterdir()} == {"suite", packed.name}
