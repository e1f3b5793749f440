"""`lineside bundle compare`: where two bundles differ, who is right, and what that is worth."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from command_line import call, refuse, succeed
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import TinyBundle

from lineside.contract import LimitRule
from lineside.errors import ConfigurationError, InputDataError, UntrustedBundleError
from lineside.metrics import rate_interval, sign_test

Row = tuple[str, int, str]
"""Part, level in 0..255, what a human said. The installed bundle takes up to 0.5 for OK and more
than 0.6 for NOT_OK; the stricter one 0.3 and 0.4."""


@pytest.fixture(scope="module")
def stricter(tiny_bundle: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model under tighter limits: 77 of 255 is OK, 102 and more is not."""
    rule = LimitRule(ok_limit=0.3, not_ok_limit=0.4, unit="K/W")
    manifest = msgspec.structs.replace(tiny_bundle.manifest, rule=rule)
    return tiny_bundle.reseal(
        tmp_path_factory.mktemp("stricter") / "stricter.lsb", manifest=manifest
    )


@pytest.fixture
def collected(tmp_path: Path) -> Callable[[Sequence[Row]], Path]:
    """``collected(rows)``: a folder with an image a row."""

    def write(rows: Sequence[Row]) -> Path:
        folder = tmp_path / "collected"
        (folder / "images").mkdir(parents=True)
        with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "part", "product", "disposition", "defect"])
            for number, (part, level, said) in enumerate(rows):
                name = f"images/{number:03d}.png"
                assert cv2.imwrite(str(folder / name), np.full((32, 32), level, np.uint8))
                defect = {"OK": "ok", "NOT_OK": "crack"}.get(said, "")
                writer.writerow([name, part, "tiny", said, defect])
        return folder

    return write


def words(new: Path, installed: Path, folder: Path, tiny: TinyBundle) -> tuple[object, ...]:
    return (
        *("bundle", "compare", new, installed, folder, "--trust", tiny.public_key_path),
        *("--engine", "onnxruntime", "--threads", "1"),
    )


ROWS: tuple[Row, ...] = (
    ("p0", 26, "OK"),
    ("p1", 90, "OK"),  # 0.35: OK, and between the stricter limits
    ("p2", 115, "NOT_OK"),  # 0.45: OK, and NOT_OK for the stricter
    ("p2", 26, "NOT_OK"),  # another picture of it
    ("p3", 115, "OK"),
    ("p4", 230, "NOT_OK"),
    ("p5", 140, ""),  # 0.55: between, and NOT_OK
)


def test_agreement_flips_and_who_is_right(
    tiny_bundle: TinyBundle, stricter: Path, collected: Callable[[Sequence[Row]], Path]
) -> None:
    folder = collected(ROWS)
    done = succeed(*words(stricter, tiny_bundle.path, folder, tiny_bundle), "--json")
    found = json.loads(done.stdout)
    assert (found["product"], found["images"]) == ("tiny", 7)
    assert found["agreement"] == {
        "OK": {"OK": 2, "NOT_OK": 0, "NOT_DECIDABLE": 0},
        "NOT_OK": {"OK": 2, "NOT_OK": 1, "NOT_DECIDABLE": 1},
        "NOT_DECIDABLE": {"OK": 1, "NOT_OK": 0, "NOT_DECIDABLE": 0},
    }
    assert [
        (flip["part"], flip["installed"], flip["new"], flip["disposition"])
        for flip in found["flips"]
    ] == [
        ("p1", "OK", "NOT_DECIDABLE", "OK"),
        ("p2", "OK", "NOT_OK", "NOT_OK"),
        ("p3", "OK", "NOT_OK", "OK"),
        ("p5", "NOT_DECIDABLE", "NOT_OK", ""),
    ]
    first = found["flips"][0]
    assert first["new_score"] == first["installed_score"] == pytest.approx(90 / 255, abs=0.03)
    reviewed = found["reviewed"]
    # Two bad parts, p2 with two pictures, and three good ones.
    assert reviewed["escapes"]["new"] == {
        "count": 0,
        "parts": 2,
        "low": 0.0,
        "high": pytest.approx(rate_interval(0, 2)[1]),
    }
    assert reviewed["escapes"]["installed"]["count"] == 1
    assert reviewed["escapes"]["only_installed"] == ["p2"]
    assert reviewed["overkill"]["only_new"] == ["p3"]
    assert reviewed["overkill"]["new"]["parts"] == 3
    assert reviewed["undecided"]["only_new"] == ["p1"]
    assert {reviewed[name]["p"] for name in reviewed} == {1.0}
    assert found["advice"].startswith("No difference is shown on 2 bad and 3 good")
    for side, limit in (("new", 0.3), ("installed", 0.5)):
        assert found[side]["p50_us"] > 0
        assert (found[side]["ok_limit"], found[side]["unit"]) == (limit, "K/W")


def test_people_read_the_same(
    tiny_bundle: TinyBundle, stricter: Path, collected: Callable[[Sequence[Row]], Path]
) -> None:
    said = succeed(*words(stricter, tiny_bundle.path, collected(ROWS), tiny_bundle)).stdout
    assert said.startswith("tiny: 7 image(s)\nNEW ")
    lines = [line.split() for line in said.splitlines()]
    assert ["NEW", "NOT_OK", "2", "1", "1"] in lines
    assert any(line[:3] == ["images/002.png", "p2", "OK"] for line in lines)
    assert "bad parts judged OK (escapes)" in said
    assert "1 of 2 (1.3 to 98.7 %)" in said
    assert "bad parts that only INSTALLED passes: p2" in said
    assert "not of the line" in said


def test_a_bad_part_that_only_the_new_one_passes_is_exit_code_1(
    tiny_bundle: TinyBundle, stricter: Path, collected: Callable[[Sequence[Row]], Path]
) -> None:
    folder = collected(ROWS)
    done = call(*words(tiny_bundle.path, stricter, folder, tiny_bundle))
    assert done.exit_code == 1
    assert "NEW passes 1 bad part(s) that INSTALLED stops" in done.stdout
    assert "bad parts that only NEW passes: p2" in done.stdout


def many(level: int, said: str, count: int = 8) -> list[Row]:
    return [(f"{said}-{number}", level, said) for number in range(count)]


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (many(115, "NOT_OK"), "NEW stops more bad parts than INSTALLED here"),
        (many(115, "OK"), "NEW rejects more good parts than INSTALLED"),
        (many(90, "OK"), "No difference is shown on 0 bad and 8 good reviewed part(s)"),
        (many(90, ""), "Nobody has said who is right: have somebody look at the 8 flip(s)"),
        (many(26, ""), "Both say the same of every image; nobody has said"),
    ],
)
def test_advice_says_what_was_shown_and_no_more(
    tiny_bundle: TinyBundle,
    stricter: Path,
    collected: Callable[[Sequence[Row]], Path],
    rows: list[Row],
    advice: str,
) -> None:
    said = succeed(*words(stricter, tiny_bundle.path, collected(rows), tiny_bundle)).stdout
    assert advice in said
    assert ("It leaves more parts to a human." in said) is (rows == many(90, "OK"))


def test_fewer_good_parts_rejected_is_said_too(
    tiny_bundle: TinyBundle, stricter: Path, collected: Callable[[Sequence[Row]], Path]
) -> None:
    said = succeed(
        *words(tiny_bundle.path, stricter, collected(many(115, "OK")), tiny_bundle)
    ).stdout
    assert "NEW rejects fewer good parts than INSTALLED here" in said


def test_a_bundle_and_itself(
    tiny_bundle: TinyBundle, collected: Callable[[Sequence[Row]], Path]
) -> None:
    said = succeed(*words(tiny_bundle.path, tiny_bundle.path, collected(ROWS), tiny_bundle)).stdout
    assert "the same bundle" in said


def test_a_plain_folder_and_a_picture_that_is_none(
    tiny_bundle: TinyBundle, stricter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    (folder / "deep").mkdir(parents=True)
    assert cv2.imwrite(str(folder / "deep" / "a.png"), np.full((32, 32), 26, np.uint8))
    (folder / "torn.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("x")
    done = succeed(*words(stricter, tiny_bundle.path, folder, tiny_bundle), "--json")
    found = json.loads(done.stdout)
    assert found["images"] == 2
    assert found["agreement"]["NOT_DECIDABLE"]["NOT_DECIDABLE"] == 1
    assert found["agreement"]["OK"]["OK"] == 1
    assert found["reviewed"] is None


def test_another_column_and_the_test_set_alone(
    tiny_bundle: TinyBundle,
    stricter: Path,
    collected: Callable[[Sequence[Row]], Path],
    tmp_path: Path,
) -> None:
    folder = collected(ROWS)
    split = tmp_path / "split.json"
    chosen = ["images/002.png", "images/004.png"]
    split.write_text(json.dumps({"seed": 0, "files": {"test": chosen, "training": []}}))
    base = words(stricter, tiny_bundle.path, folder, tiny_bundle)
    found = json.loads(succeed(*base, "--truth", "defect", "--split", split, "--json").stdout)
    assert (found["images"], found["outside"]) == (2, 5)
    assert found["reviewed"]["escapes"]["only_installed"] == ["p2"]
    assert found["reviewed"]["overkill"]["only_new"] == ["p3"]
    assert "5 not in the test set left out" in succeed(*base, "--split", split).stdout


def test_rows_of_another_product_are_left_out(
    tiny_bundle: TinyBundle, stricter: Path, collected: Callable[[Sequence[Row]], Path]
) -> None:
    folder = collected(ROWS)
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("p5,tiny", "p5,other"))
    base = words(stricter, tiny_bundle.path, folder, tiny_bundle)
    found = json.loads(succeed(*base, "--json").stdout)
    assert (found["images"], found["other_product"]) == (6, 1)
    assert "1 of another product left out" in succeed(*base).stdout


def test_bundles_of_two_products_are_refused(
    tiny_bundle: TinyBundle, tmp_path: Path, collected: Callable[[Sequence[Row]], Path]
) -> None:
    identity = msgspec.structs.replace(tiny_bundle.manifest.identity, product="other")
    manifest = msgspec.structs.replace(tiny_bundle.manifest, identity=identity)
    other = tiny_bundle.reseal(tmp_path / "other.lsb", manifest=manifest)
    base = words(other, tiny_bundle.path, collected(ROWS), tiny_bundle)
    told = refuse(ConfigurationError, *base)
    assert "judges 'other'" in told
    assert "judges 'tiny': only bundles of one product" in told


@pytest.mark.parametrize(
    ("table", "kind", "told"),
    [
        ("image,part\na.png,1\n", InputDataError, "no column 'file'"),
        ("file,part\n", InputDataError, "no rows"),
        ("", InputDataError, "no column 'file'"),
        ('file,part\n"a.png,1\n', InputDataError, "line 2"),
        ("file,part,product\na.png,1,other\n", InputDataError, "another product than 'tiny'"),
        ("file;part\na.png;1\n", ConfigurationError, "no such column; there are file, part"),
    ],
)
def test_a_table_that_is_none_is_told(
    tiny_bundle: TinyBundle,
    stricter: Path,
    tmp_path: Path,
    table: str,
    kind: type[InputDataError] | type[ConfigurationError],
    told: str,
) -> None:
    (tmp_path / "labels.csv").write_text(table)
    base = words(stricter, tiny_bundle.path, tmp_path, tiny_bundle)
    more = ("--truth", "verdict") if kind is ConfigurationError else ()
    assert told in refuse(kind, *base, *more)


def test_what_else_cannot_be_compared(
    tiny_bundle: TinyBundle, stricter: Path, tmp_path: Path
) -> None:
    def told(kind: type[InputDataError] | type[ConfigurationError], *more: object) -> str:
        return refuse(kind, *words(stricter, tiny_bundle.path, tmp_path, tiny_bundle), *more)

    assert "no image to compare on" in told(InputDataError)
    assert "has no labels.csv" in told(ConfigurationError, "--truth", "x")
    assert "No such file" in told(InputDataError, "--split", tmp_path / "absent.json")
    (tmp_path / "split.json").write_text('{"files": {}}')
    assert "no split.json" in told(InputDataError, "--split", tmp_path / "split.json")
    absent = words(stricter, tiny_bundle.path, tmp_path / "absent", tiny_bundle)
    assert "no such folder" in refuse(InputDataError, *absent)


def test_a_bundle_of_a_stranger_is_refused(
    tiny_bundle: TinyBundle, anomaly_bundle: TinyBundle, tmp_path: Path
) -> None:
    base = words(anomaly_bundle.path, tiny_bundle.path, tmp_path, tiny_bundle)
    refuse(UntrustedBundleError, *base)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_test_is_symmetric_and_certain_of_nothing_where_both_are_alike(
    one: int, other: int
) -> None:
    assert sign_test(one, other) == sign_test(other, one)
    assert 0.0 < sign_test(one, other) <= 1.0
    assert sign_test(one, one) == 1.0
    if one > other:
        assert sign_test(one + 1, other) <= sign_test(one, other) + 1e-12


# By scipy 1's binomtest(k, n).proportion_ci().
@pytest.mark.parametrize(
    ("count", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3084971), (3, 10, 0.0667395, 0.6524529), (10, 10, 0.6915029, 1.0)],
)
def test_the_interval_is_that_of_clopper_and_pearson(
    count: int, trials: int, low: float, high: float
) -> None:
    assert rate_interval(count, trials) == (pytest.approx(low, abs=1e-6), pytest.approx(high))
    assert rate_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 200), st.data())
def test_the_interval_holds_its_rate_and_mirrors(trials: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, trials))
    low, high = rate_interval(count, trials)
    assert low <= count / trials <= high
    mirrored = rate_interval(trials - count, trials)
    assert mirrored == (pytest.approx(1 - high, abs=1e-9), pytest.approx(1 - low, abs=1e-9))


def test_the_exact_test_gives_known_values() -> None:
    assert sign_test(8, 0) == pytest.approx(2 / 2**8)
    assert sign_test(5, 1) == pytest.approx(2 * (1 + 6) / 2**6)
    assert sign_test(0, 0) == 1.0
