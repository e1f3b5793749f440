"""The command as a process: outputs that are full, closed or too narrow, names that are no text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bundle import TinyBundle

COMMAND = (sys.executable, "-c", "from lineside.cli.main import main; main()")
# Python prints text strictly under most locales of the world; the one of the tests may be lax.
STRICT = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}


def call(
    *words: str | Path, shell: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a verb through `sh`, so that ``shell`` may redirect its outputs."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", *COMMAND, *map(os.fspath, words)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
        env=env or STRICT,
    )


@pytest.fixture
def trusted(tiny_bundle: TinyBundle) -> tuple[str | Path, ...]:
    return (tiny_bundle.path, "--trust", tiny_bundle.public_key_path)


@pytest.fixture
def inspect(trusted: tuple[str | Path, ...]) -> tuple[str | Path, ...]:
    return ("inspect", *trusted, "--engine", "onnxruntime", "--threads", "1")


def test_an_output_that_is_full_is_a_storage_fault(trusted: tuple[str | Path, ...]) -> None:
    done = call("verify", *trusted, "--engine", "none", "--json", shell="> /dev/full")
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert "standard output: No space left" in done.stderr


@pytest.mark.parametrize("shell", ["2> /dev/full", "2>&-", "2>&- >&-"])
def test_a_full_or_closed_standard_error_leaves_the_exit_code(
    trusted: tuple[str | Path, ...], shell: str
) -> None:
    assert call("verify", "nowhere.lsb", *trusted[1:], shell=shell).returncode == 5
    assert call("verify", shell=shell).returncode == 2


def test_a_name_that_is_not_utf8_stands_in_table_and_json(
    inspect: tuple[str | Path, ...], tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(tiny_bundle.frames[0], image)
    table = call(*inspect, image)
    assert table.returncode == 0, table.stderr
    assert r"caf\udce9.png" in table.stdout
    document = call(*inspect, image, "--json")
    assert document.returncode == 0, document.stderr
    [row] = json.loads(document.stdout)
    assert row["file"].endswith(r"caf\udce9.png")
    assert row["part_id"] == r"caf\udce9"


def test_an_alphabet_that_lacks_a_letter_is_no_fault(
    inspect: tuple[str | Path, ...], tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    image = tmp_path / "Größe-温.png"
    shutil.copy(tiny_bundle.frames[0], image)
    done = call(*inspect, image, env={**os.environ, "PYTHONIOENCODING": "latin1:strict"})
    assert done.returncode == 0, done.stderr


def test_what_is_no_file_is_a_row_and_the_others_go_on(
    inspect: tuple[str | Path, ...], tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    images = (tmp_path / "pipe.png", "x" * 300 + ".png", "/dev/zero", tiny_bundle.frames[0])
    done = call(*inspect, *images, "--json")
    assert done.returncode == 1, done.stderr
    assert [row["reason"] for row in json.loads(done.stdout)] == [
        *("frame_missing", "frame_missing", "frame_missing", "within_limit")
    ]


def test_a_header_that_claims_too_many_pixels_takes_no_memory(
    inspect: tuple[str | Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "bomb.pgm").write_bytes(b"P5 30000 30000 255\n" + bytes(64))
    done = call(*inspect, tmp_path / "bomb.pgm", "--json")
    assert done.returncode == 1, done.stderr
    [row] = json.loads(done.stdout)
    assert row["reason"] == "frame_decode"
    assert "OPENCV_IO_MAX_IMAGE_PIXELS" in row["detail"]


def test_a_home_that_may_not_be_entered_is_named(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    # As HOME=/root for another user; root, who runs tests in containers, may enter everything.
    home = tmp_path / ("x" * 300)
    env = {**STRICT, "HOME": str(home)}
    env.pop("LINESIDE_TRUST", None)
    done = call("verify", tiny_bundle.path, env=env)
    assert (done.returncode, done.stdout) == (4, "")
    assert "no trusted keys" in done.stderr
    assert "File name too long" in done.stderr
