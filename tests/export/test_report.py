"""What an export leaves beside the bundle, and what it leaves where there is none."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lineside.errors import StorageError
from lineside_export import report, seal, vendors
from lineside_export.cli import export
from lineside_export.guarantee_report import GUARANTEE_JSON


@pytest.fixture
def arguments(small_candidate: Path, key_pair: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """The quickest export, to `x.lsb`."""
    out = ("--out", str(tmp_path / "x.lsb"), "--key", str(key_pair[0]))
    return [str(small_candidate), *out, "--engines", "onnxruntime", "--precision", "int8"]


def test_figures_of_an_earlier_export_go(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_MOST_FLIPS", 0)
    folder = tmp_path / "x.lsb.report"
    (folder / "flips").mkdir(parents=True)
    stale = [folder / "front.png", folder / GUARANTEE_JSON, folder / "flips" / "validation_3.png"]
    for file in (*stale, folder / "notes.txt"):
        file.write_bytes(b"old")
    done = CliRunner().invoke(export, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert not any(file.exists() for file in stale)
    assert (folder / "notes.txt").exists(), "what is not ours stays"
    flipped = [
        flip
        for form in json.loads((folder / "parity.json").read_text())["forms"]
        for flip in form["flipped"]
    ]
    assert flipped
    assert all(flip["frame"] is None for flip in flipped), "no frame is named that is not there"


def test_no_bundle_leaves_no_figures(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_given: object, **_named: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(seal, "seal_bundle", full)
    done = CliRunner().invoke(export, arguments)
    assert isinstance(done.exception, StorageError)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "x.lsb.report").touch()
    done = CliRunner().invoke(export, arguments)
    assert done.exit_code == 2
    assert "x.lsb.report is there and no folder" in done.stderr
    long = [*arguments[:2], str(tmp_path / ("a" * 250)), *arguments[3:]]
    done = CliRunner().invoke(export, long)
    assert isinstance(done.exception, StorageError)
    assert "ONNX graph" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [("int9", "is unknown"), (",", "name at least one"), ("bf16", "onnxruntime knows none of")],
)
def test_a_precision_that_is_not_there_is_wrong_use(
    arguments: list[str], words: str, told: str
) -> None:
    done = CliRunner().invoke(export, [*arguments, "--precision", words])
    assert done.exit_code == click.UsageError.exit_code
    assert told in done.stderr and "--precision" in done.stderr


def test_a_full_temporary_folder_is_named() -> None:
    with (
        pytest.raises(StorageError, match=r"temporary files .* No space left .* TMPDIR"),
        vendors.scratch_folder(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
