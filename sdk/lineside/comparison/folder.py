"""The images that two bundles are compared on, with what humans said of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lineside.errors import ConfigurationError, InputDataError
from lineside.frame import SUFFIXES
from lineside.plainfile import is_folder, read_whole

TABLE_FILE: Final = "labels.csv"
DEFAULT_TRUTH: Final = "disposition"
GOOD_NAMES: Final = ("ok", "good", "free", "normal")
"""Cells of the truth's column that call a part good, whatever their case; as the trainer has it."""

_TABLE_LIMIT_BYTES: Final = 2**30


@dataclass(frozen=True, kw_only=True)
class ComparedImage:
    """One image.

    Attributes:
        file: where it lies.
        name: relative to the folder, forward slashes.
        part: the physical part; its own name where nobody says.
        bad: what a human said: ``True`` NOT_OK, ``False`` OK, ``None`` nothing.
    """

    file: Path
    name: str
    part: str
    bad: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """What is compared on.

    Attributes:
        other_product: images of another product, which are left out.
        outside: images that the sample set leaves out.
    """

    images: tuple[ComparedImage, ...]
    other_product: int = 0
    outside: int = 0


def read_images(
    folder: Path, *, product: str, truth: str | None = None, only: Collection[str] | None = None
) -> ImageFolder:
    """Images that ``labels.csv`` names, or, without one, all that lie below.

    Args:
        folder: of `lineside collect`, or any.
        product: rows that name another one are left out.
        truth: column that says what a part is; ``None``: ``disposition`` where there is one.
        only: names of the images that count; ``None``: all.

    Raises:
        InputDataError: no such folder, no image, a table that is none.
        ConfigurationError: no such column.
    """
    if not is_folder(folder):
        raise InputDataError(f"{folder}: there is no such folder that this user may enter")
    table = folder / TABLE_FILE
    if table.is_file():
        images, others = _from_table(folder, table, product, truth)
    elif truth is not None:
        raise ConfigurationError(
            f"--truth {truth}: {folder} has no {TABLE_FILE}, so no column", path="truth"
        )
    else:
        images, others = _from_files(folder), 0
    chosen = tuple(image for image in images if only is None or image.name in only)
    if not chosen:
        raise InputDataError(
            f"{folder}: no image to compare on"
            + (f"; {others} are of another product than {product!r}" if others else "")
            + (f"; {len(images)} are not among those asked for" if images else "")
        )
    return ImageFolder(images=chosen, other_product=others, outside=len(images) - len(chosen))


class _SplitFile(msgspec.Struct):
    files: dict[str, list[str]]


def read_test_set(split: Path) -> frozenset[str]:
    """Names of the test images of a training run, from its ``split.json``.

    Raises:
        InputDataError: it cannot be read.
    """
    try:
        data = read_whole(split, limit_bytes=_TABLE_LIMIT_BYTES)
        return frozenset(msgspec.json.decode(data, type=_SplitFile).files["test"])
    except OSError as error:
        raise InputDataError(f"{split}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise InputDataError(f"{split}: is no split.json of a training run: {error}") from error


def _from_files(folder: Path) -> list[ComparedImage]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    names = [file.relative_to(folder).as_posix() for file in files]
    return [
        ComparedImage(file=file, name=name, part=name)
        for file, name in zip(files, names, strict=True)
    ]


def _from_table(
    folder: Path, table: Path, product: str, truth: str | None
) -> tuple[list[ComparedImage], int]:
    rows = _read_table(table)
    if truth is not None and truth not in rows[0]:
        raise ConfigurationError(
            f"--truth {truth}: {table} has no such column; there are {', '.join(rows[0])}",
            path="truth",
        )
    ours = [row for row in rows if row.get("product", "") in ("", product)]
    images = [
        ComparedImage(
            file=folder / row["file"],
            name=row["file"],
            part=row.get("part") or row["file"],
            bad=_is_bad(row.get(truth or DEFAULT_TRUTH, "")),
        )
        for row in ours
        if row["file"]
    ]
    return sorted(images, key=lambda image: image.name), len(rows) - len(ours)


def _is_bad(cell: str) -> bool | None:
    word = cell.lower()
    return None if word in ("", "nan") else word not in GOOD_NAMES


def _read_table(table: Path) -> list[dict[str, str]]:
    try:
        text = read_whole(table, limit_bytes=_TABLE_LIMIT_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise InputDataError(f"{table}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputDataError(f"{table}: not UTF-8 ({error.reason})") from error
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(_as_rows(table, lines))
    except csv.Error as error:
        raise InputDataError(f"{table}: line {lines.line_num}: {error}") from error
    if not rows:
        raise InputDataError(f"{table}: no rows: no images to compare on")
    return rows


def _as_rows(table: Path, lines: Iterable[list[str]]) -> Iterable[dict[str, str]]:
    given = iter(lines)
    header = [name.strip() for name in next(given, [])]
    if "file" not in header:
        raise InputDataError(
            f"{table}: no column 'file'; its columns are {', '.join(header) or 'none'}"
        )
    for cells in given:
        if any(cell.strip() for cell in cells):
            padded = [cell.strip() for cell in cells] + [""] * len(header)
            yield dict(zip(header, padded, strict=False))
