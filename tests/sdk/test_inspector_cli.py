"""`lineside inspect` as people and scripts meet it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_bundle import TinyBundle

from lineside.cli.main import lineside
from lineside.errors import InputDataError


def run(tiny: TinyBundle, *arguments: str | Path, trust: Path | None = None) -> Result:
    key = str(trust or tiny.public_key_path)
    return CliRunner().invoke(
        lineside,
        ["inspect", str(tiny.path), *map(str, arguments), "--trust", key, "--threads", "1"],
    )


def test_a_folder_becomes_a_row_an_image_in_name_order(tiny_bundle: TinyBundle) -> None:
    done = run(tiny_bundle, tiny_bundle.frames[0].parent)
    assert done.exit_code == 0, done.output
    head, _, *rows = done.stdout.splitlines()
    assert head.split() == ["file", "evaluation", "score", "limit", "unit", "reason", "ms"]
    assert [row.split()[0] for row in rows] == [str(frame) for frame in tiny_bundle.frames]
    assert [row.split()[1] for row in rows] == ["OK", "NOT_OK"] * 3
    for row in rows:
        assert re.fullmatch(
            r"\S+ +(OK +0\.\d+ +0\.5 +K/W +within|NOT_OK +0\.\d+ +0\.6 +K/W +beyond)"
            r"_limit +\d+\.\d\d",
            row,
        )


def test_json_is_one_array_with_words_and_numbers(tiny_bundle: TinyBundle) -> None:
    done = run(tiny_bundle, *tiny_bundle.frames[:2], "--json")
    assert done.exit_code == 0
    first, second = json.loads(done.stdout)
    assert first["file"] == str(tiny_bundle.frames[0])
    assert (first["evaluation"], first["evaluation_code"]) == ("OK", 1)
    assert (second["evaluation"], second["evaluation_code"]) == ("NOT_OK", 2)
    assert (second["reason"], second["reason_code"]) == ("beyond_limit", 1)
    assert second["part_id"] == tiny_bundle.frames[1].stem
    assert second["score"] > second["limit"]
    assert set(second["timings"]) == {"preprocess_us", "infer_us", "decide_us"}


def test_a_bad_image_is_a_row_and_the_others_go_on(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"no image")
    absent = tmp_path / "absent.png"
    done = run(tiny_bundle, torn, absent, tiny_bundle.frames[0], "--json")
    assert done.exit_code == 1
    rows = json.loads(done.stdout)
    assert [row["evaluation"] for row in rows] == ["NOT_DECIDABLE", "NOT_DECIDABLE", "OK"]
    assert [row["reason"] for row in rows[:2]] == ["frame_decode", "frame_missing"]
    assert [row["score"] for row in rows[:2]] == [None, None]
    assert str(torn) in done.stderr
    assert str(absent) in done.stderr
    table = run(tiny_bundle, torn)
    assert re.search(r"NOT_DECIDABLE +- +0\.6 +K/W +frame_decode", table.stdout)


def test_a_folder_without_images_is_an_error(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    done = run(tiny_bundle, tmp_path)
    assert isinstance(done.exception, InputDataError)
    assert "no image in it" in str(done.exception)


def test_without_images_it_is_wrong_use(tiny_bundle: TinyBundle) -> None:
    assert run(tiny_bundle).exit_code == 2


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "auto"])
def test_the_engine_can_be_named(tiny_bundle: TinyBundle, engine: str) -> None:
    done = run(tiny_bundle, tiny_bundle.frames[0], "--engine", engine, "--json")
    (row,) = json.loads(done.stdout)
    assert engine == "auto" or row["engine"] == f"{engine}/fp32"
