"""A folder becomes a table: layouts, kinds of images, and every fault by name."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside_trainer.data import Table, read_table
from lineside_trainer.data.layouts import relative_name
from lineside_trainer.errors import DataError

GRAY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)


def put(folder: Path, name: str, pixels: np.ndarray = GRAY) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def put_table(folder: Path, text: str, *, encoding: str = "utf-8") -> None:
    (folder / "labels.csv").write_bytes(text.encode(encoding))


def read(folder: Path, **asked: str | bool | None) -> Table:
    return read_table(folder, **{"target": "y", "group": None, **asked})  # type: ignore[arg-type]


def names(table: Table) -> list[str]:
    return [record.name for record in table.records]


def reasons(table: Table) -> dict[str, str]:
    return {entry.file: entry.reason for entry in table.rejected}


def test_rows_come_in_name_order_with_target_part_and_split(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        put(tmp_path, name)
    put_table(tmp_path, "file,y,board,fold\nb.png,2.5,B1,test\na.png,-1,B0,train\n")
    table = read(tmp_path, group="board", split_column="fold")
    assert [(r.name, r.target, r.part, r.split) for r in table.records] == [
        ("a.png", -1.0, "B0", "train"),
        ("b.png", 2.5, "B1", "test"),
    ]
    assert table.records[0].file == tmp_path / "a.png"
    assert (table.rejected, table.unlabelled) == ((), ())


@pytest.mark.parametrize(
    "text",
    [
        '\ufefffile,y\r\nsub/a.png,1\r\n"sub/b, c.png",2\r\n',
        'file,y\nsub\\a.png,1\n"sub\\b, c.png",2\n',
        "file;y\n./sub/a.png;1\nsub/x/../b, c.png;2\n",
        "y\tfile\n1\tsub/a.png\n 2 \t sub/b, c.png \n\n",
    ],
    ids=["bom-crlf-quotes", "windows-separators", "semicolons-dots", "tabs-spaces-blank-line"],
)
def test_tables_from_many_programs_read_alike(tmp_path: Path, text: str) -> None:
    for name in ("sub/a.png", "sub/b, c.png"):
        put(tmp_path, name)
    put_table(tmp_path, text)
    table = read(tmp_path)
    assert names(table) == ["sub/a.png", "sub/b, c.png"]
    assert table.targets.tolist() == [1.0, 2.0]
    assert table.rejected == ()


def test_class_folders_give_labels_and_loose_images_stay_unlabelled(tmp_path: Path) -> None:
    for name in ("good/a.png", "bad/deep/b.png", "c.png", ".thumbs/d.png"):
        put(tmp_path, name)
    table = read(tmp_path, target=None)
    assert [(r.name, r.label, r.part) for r in table.records] == [
        ("bad/deep/b.png", "bad", "bad/deep/b.png"),
        ("c.png", None, "c.png"),
        ("good/a.png", "good", "good/a.png"),
    ]


@pytest.mark.parametrize(
    ("pixels", "channels", "depth"),
    [
        (GRAY, 1, 8),
        (np.dstack([GRAY, GRAY + 1, GRAY + 2]), 3, 8),
        (GRAY.astype(np.uint16) * 30, 1, 16),
        (np.dstack([GRAY, GRAY, GRAY]).astype(np.uint16) * 30, 3, 16),
        # Three equal channels are three channels: the device gets the file as it is.
        (np.dstack([GRAY, GRAY, GRAY]), 3, 8),
    ],
    ids=["gray8", "colour8", "gray16", "colour16", "equal-channels"],
)
def test_depth_and_channels_are_found(
    tmp_path: Path, pixels: np.ndarray, channels: int, depth: int
) -> None:
    put(tmp_path, "a.png", pixels)
    frame = read(tmp_path, target=None).frame
    assert (frame.channels, frame.bit_depth, frame.size_hw) == (channels, depth, (12, 10))


def test_white_of_a_12_bit_camera_in_16_bit_files(tmp_path: Path) -> None:
    put(tmp_path, "a.png", np.full((4, 4), 3000, np.uint16))
    put(tmp_path, "b.png", np.full((4, 4), 70, np.uint16))
    assert read(tmp_path, target=None).frame.window == (0, 4095)
    put(tmp_path, "c.png", np.full((4, 4), 4096, np.uint16))
    assert read(tmp_path, target=None).frame.window == (0, 8191)


def test_sizes_that_differ_are_said_to_differ(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path, "b.png", GRAY[:5])
    assert read(tmp_path, target=None).frame.size_hw is None


def test_images_of_another_kind_are_named_not_converted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        put(tmp_path, name)
    put(tmp_path, "c.png", np.dstack([GRAY] * 3))
    put(tmp_path, "d.png", GRAY.astype(np.uint16))
    table = read(tmp_path, target=None)
    assert names(table) == ["a.png", "b.png"]
    assert set(reasons(table)) == {"c.png", "d.png"}
    assert "2 of 4 images have 8 bit with 1" in reasons(table)["c.png"]


def faulty_folder(folder: Path) -> None:
    for name in (
        "ok.png",
        "cut.png",
        "text_target.png",
        "twice.png",
        "quarrel.png",
        "forgotten.png",
    ):
        put(folder, name)
    for name in ("no_target.png", "nan.png", "inf.png", "mask.png"):
        put(folder, name)
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    put_table(
        folder,
        "file,y,beside\nok.png,1,mask.png\ncut.png,1,\nempty.png,1,\nmissing.png,1,\n"
        "text_target.png,broken,\nno_target.png,,\nnan.png,nan,\ninf.png,inf,\n"
        "twice.png,1,\ntwice.png,1,\nquarrel.png,1,\nquarrel.png,2,\n"
        "../out.png,1,\n/etc/x.png,1,\nC:\\x.png,1,\nshort.png\n,1,\n",
    )


def test_every_fault_is_named_with_its_reason(tmp_path: Path) -> None:
    faulty_folder(tmp_path)
    table = read(tmp_path)
    assert names(table) == [
        *("inf.png", "nan.png", "no_target.png", "ok.png", "text_target.png", "twice.png"),
    ]
    found = reasons(table)
    expected = {
        "cut.png": "can be decoded (cut short",
        "empty.png": "is empty",
        "missing.png": "No such file",
        "twice.png": "line 11 repeats line 10 and is left out",
        "quarrel.png": "disagrees",
        "../out.png": "leaves the folder",
        "/etc/x.png": "leaves the folder",
        "C:\\x.png": "leaves the folder",
        "short.png": "has 1 cells",
        "line 18": "names no file",
        "forgotten.png": "no row",
    }
    assert set(found) == set(expected)
    for name, clause in expected.items():
        assert clause in found[name], name
    assert {entry.file: entry.reason.split("unlabelled: ")[1] for entry in table.unlabelled} == {
        "text_target.png": "column 'y' holds 'broken', no finite number",
        "no_target.png": "column 'y' is empty",
        "nan.png": "column 'y' holds 'nan', no finite number",
        "inf.png": "column 'y' holds 'inf', no finite number",
    }
    assert np.isnan(table.targets).sum() == 4


def test_unlabelled_images_serve_pre_training_without_complaint(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path, "b.png")
    put_table(tmp_path, "file,y\na.png,1\nb.png,\n")
    table = read(tmp_path, target=None, strict=True)
    assert (len(table), table.unlabelled) == (2, ())


def test_strict_makes_any_fault_an_error_that_names_it(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path, "b.png")
    put_table(tmp_path, "file,y\na.png,1\nb.png,\n")
    with pytest.raises(DataError, match=r"--strict: 1 file.*b\.png: unlabelled"):
        read(tmp_path, strict=True)
    put_table(tmp_path, "file,y\na.png,1\nb.png,2\ngone.png,3\n")
    with pytest.raises(DataError, match=r"gone.png: No such file"):
        read(tmp_path, strict=True)
    put_table(tmp_path, "file,y\na.png,1\nb.png,2\n")
    assert len(read(tmp_path, strict=True)) == 2


def test_an_empty_group_cell_leaves_the_part_unknown(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path, "b.png")
    put_table(tmp_path, "file,y,board\na.png,1,7\nb.png,1,\n")
    table = read(tmp_path, group="board")
    assert reasons(table) == {"b.png": "column 'board' is empty: its part is unknown"}


@pytest.mark.parametrize("asked", ["target", "group", "split_column"])
def test_an_unknown_column_is_refused_with_those_there_are(tmp_path: Path, asked: str) -> None:
    put(tmp_path, "a.png")
    put_table(tmp_path, "file,y,board\na.png,1,7\n")
    with pytest.raises(DataError, match=r"no column 'speed' .* y, board"):
        read(tmp_path, **{asked: "speed"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,y\na.png,1\n", "no column 'file'; its columns are name, y"),
        ("", "no column 'file'"),
        ("file,y\n", "no images"),
        ("file,y,y\na.png,1,2\n", "more than one column is named 'y'"),
        ('file,y\n"a.png,1\n', "line 2"),
        ("file,y\na.png,good\n", "not one number to learn from"),
        ("file,y\ngone.png,1\n", "not one image can be used: 2 file.*no row.*No such file"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, "a.png")
    put_table(tmp_path, text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_table_in_another_encoding_names_the_remedy(tmp_path: Path) -> None:
    put(tmp_path, "ä.png")
    put_table(tmp_path, "file,y\nä.png,1\n", encoding="cp1252")
    with pytest.raises(DataError, match="save it as UTF-8"):
        read(tmp_path)


def test_a_folder_without_images_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither labels\.csv nor an image"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "nowhere")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["", "file,y\na.png,1\nb.png,2\n"])
def test_pipes_dead_links_and_names_that_are_no_text_are_named(tmp_path: Path, text: str) -> None:
    for name in ("a.png", "b.png", os.fsdecode(b"caf\xe9.png")):
        put(tmp_path, name) if name.isascii() else (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    if text:
        put_table(tmp_path, text)

    table = read(tmp_path, target="y" if text else None)

    assert names(table) == ["a.png", "b.png"]
    assert set(reasons(table)) == {r"caf\udce9.png", "pipe.png", "link.png"}
    assert "not UTF-8" in reasons(table)[r"caf\udce9.png"]


@pytest.mark.timeout(60)
def test_a_table_that_is_no_file_is_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"labels\.csv: not a file"):
        read(tmp_path, target=None)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / ("x" * 300))


def test_progress_ends_at_the_last_image(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path, name)
    seen: list[tuple[int, int]] = []
    read_table(
        tmp_path, target=None, group=None, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["..", ".", "a", "b.png", "", "c d"]), max_size=7))
def test_no_name_leads_out_of_the_folder(parts: list[str]) -> None:
    written = "/".join(parts)
    inside = relative_name(written)
    if inside is not None:
        assert inside and not inside.startswith("/")
        assert ".." not in inside.split("/")
        # The very file that the written path means, as the system itself resolves it.
        root = Path("/root of images")
        assert (root / inside).resolve() == (root / written).resolve()
