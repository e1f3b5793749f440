"""`lineside inspect` as people and scripts meet it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_bundle import TinyBundle

from lineside.cli.main import lineside
from lineside.errors import ConfigurationError, InputDataError, StorageError
from lineside.frame import read_frame


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


PLACE = re.compile(r"NOT_OK .*  anomaly 0\.\d+ x (\d+)\.\.(\d+) y (\d+)\.\.(\d+) \((\d+) px\)")


def test_a_finding_with_a_place_stands_in_the_table(anomaly_bundle: TinyBundle) -> None:
    done = run(anomaly_bundle, *anomaly_bundle.frames[:2])
    assert done.exit_code == 0, done.output
    head, _, good, bad = done.stdout.splitlines()
    assert head.split()[-1] == "finding"
    assert re.search(r"within_limit +\d+\.\d\d$", good)
    found = PLACE.search(bad)
    assert found is not None, bad
    *corners, area_px = map(int, found.groups())
    assert corners == pytest.approx([32, 48, 12, 24], abs=2)
    assert area_px == pytest.approx(12 * 16, rel=0.25)


def test_json_holds_the_finding_and_no_array(anomaly_bundle: TinyBundle) -> None:
    done = run(anomaly_bundle, *anomaly_bundle.frames[:2], "--json")
    good, bad = json.loads(done.stdout)
    assert (good["findings"], good["map_file"], bad["map_file"]) == ([], None, None)
    (finding,) = bad["findings"]
    assert finding["name"] == "anomaly"
    assert finding["probability"] is None
    assert set(finding["region"]) == {"x0_px", "y0_px", "x1_px", "y1_px"}
    assert finding["peak"] == pytest.approx(bad["score"])
    lists = [key for key, value in bad.items() if isinstance(value, list)]
    assert lists == ["findings"]


def test_maps_are_pictures_of_frame_heat_and_region(
    anomaly_bundle: TinyBundle, tmp_path: Path
) -> None:
    maps = tmp_path / "deep" / "maps"
    done = run(anomaly_bundle, *anomaly_bundle.frames[:2], "--maps", maps, "--json")
    assert done.exit_code == 0, done.output
    names = [Path(row["map_file"]).name for row in json.loads(done.stdout)]
    assert names == ["part-0000.map.png", "part-0001.map.png"]
    assert sorted(path.name for path in maps.iterdir()) == names
    good, bad = (read_frame(maps / name).pixels_hwc.astype(int) for name in names)
    scale = 7  # 64 px wide, enlarged to what a line of text needs
    assert good.shape == bad.shape == (48 * scale + 46, 480, 3)
    middle = bad[18 * scale, 40 * scale]
    assert middle[0] > middle[2] + 60  # full heat is red
    corner = bad[40 * scale, 5 * scale]
    assert np.ptp(corner) < 40  # as gray as the frame
    assert (bad[12 * scale, 33 * scale : 47 * scale] == 255).all()  # the region's upper edge
    assert bad[48 * scale :].max() == 255  # words below
    red_of_good = (good[: 48 * scale, :, 0] - good[: 48 * scale, :, 2]).max()
    assert red_of_good < middle[0] - middle[2]


def test_images_of_one_name_get_pictures_of_their_own(
    anomaly_bundle: TinyBundle, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(anomaly_bundle.frames[1], tmp_path / name / "x.png")
    shutil.copy(anomaly_bundle.frames[0], tmp_path / "b" / "x-2.png")
    maps = tmp_path / "maps"
    for _ in range(2):  # the second run replaces the first's
        done = run(anomaly_bundle, tmp_path / "a", tmp_path / "b", "--maps", maps)
        assert done.exit_code == 0, done.output
        # b/ in name order: x-2 takes its own name, so the second x becomes the next free one.
        names = sorted(path.name for path in maps.iterdir())
        assert names == ["x-2.map.png", "x-3.map.png", "x.map.png"]


def test_an_image_that_cannot_be_used_has_no_map_and_the_others_go_on(
    anomaly_bundle: TinyBundle, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"no image")
    maps = tmp_path / "maps"
    done = run(anomaly_bundle, torn, anomaly_bundle.frames[1], "--maps", maps, "--json")
    assert done.exit_code == 1
    first, second = json.loads(done.stdout)
    assert (first["reason"], first["map_file"]) == ("frame_decode", None)
    assert [path.name for path in maps.iterdir()] == [Path(second["map_file"]).name]


def test_maps_are_refused_without_a_map_and_among_the_images(
    anomaly_bundle: TinyBundle, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    for bundle, folder, words in (
        (tiny_bundle, tmp_path / "maps", "gives no map"),
        (anomaly_bundle, anomaly_bundle.frames[0].parent, "holds images"),
    ):
        done = run(bundle, bundle.frames[0], "--maps", folder)
        assert isinstance(done.exception, ConfigurationError)
        assert words in str(done.exception)
        assert "--maps" in str(done.exception)
    assert not (tmp_path / "maps").exists()


def test_a_folder_of_maps_that_cannot_be_made_is_told(anomaly_bundle: TinyBundle) -> None:
    done = run(anomaly_bundle, anomaly_bundle.frames[0], "--maps", "/proc/maps")
    assert isinstance(done.exception, StorageError)
    assert "/proc/maps" in str(done.exception)
