"""The two layouts a folder of images may have, read into rows of text and nothing decided yet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from lineside.frame import SUFFIXES
from lineside.plainfile import is_folder
from lineside_trainer.errors import DataError

TABLE_FILE: Final = "labels.csv"
FILE_COLUMN: Final = "file"
CLASS_COLUMN: Final = "class"


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A file that is not used, or not used as labelled, and why.

    Attributes:
        file: as people know it: relative to the folder, or as the table wrote it.
        reason: one clause that says what to change.
    """

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image as a layout names it.

    Attributes:
        name: relative to the folder, forward slashes, no ``..``.
        line: line of ``labels.csv``, 1 being the header; 0 in class folders.
        cells: by column, stripped.
    """

    name: str
    line: int
    cells: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything a layout says before any image is opened.

    Attributes:
        kind: which of the two.
        columns: of the table besides ``file``; class folders have ``class``.
        rows: in no particular order, each name once.
        rejected: rows and files that cannot be used whatever the images hold.
    """

    kind: Literal["labels.csv", "class folders"]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    rejected: tuple[Rejected, ...]


def read_layout(folder: Path) -> Layout:
    """Read ``labels.csv`` where there is one, else take folder names as classes.

    Raises:
        DataError: no folder, no image, or a table that is none.
    """
    if not is_folder(folder):
        raise DataError(f"{folder}: there is no such folder that this user may enter")
    table = folder / TABLE_FILE
    if table.is_file():
        return _read_table_layout(folder, table)
    if table.exists():
        raise DataError(f"{table}: not a file; take it away, or put the table there")
    return _read_class_folders(folder)


def image_names(folder: Path) -> Iterator[str]:
    """Relative names of all that should be images below, hidden ones left out, in name order.

    Pipes and links that lead nowhere are among them: opening them says what is wrong.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and path.suffix.lower() in SUFFIXES and not is_folder(path):
            yield name.as_posix()


def _read_class_folders(folder: Path) -> Layout:
    names = list(image_names(folder))
    rows = tuple(
        Row(name=name, line=0, cells={CLASS_COLUMN: name.partition("/")[0] if "/" in name else ""})
        for name in names
        if _is_text(name)
    )
    if not names:
        raise DataError(
            f"{folder}: neither {TABLE_FILE} nor an image ({', '.join(SUFFIXES)}) is in there"
        )
    return Layout(
        kind="class folders",
        columns=(CLASS_COLUMN,),
        rows=rows,
        rejected=tuple(_nameless(name) for name in names if not _is_text(name)),
    )


def _is_text(name: str) -> bool:
    # Linux lets any bytes be a name; what is no UTF-8 could not stand in reports and split.json.
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _nameless(name: str) -> Rejected:
    told = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return Rejected(file=told, reason="its name is not UTF-8; rename it")


def _read_table_layout(folder: Path, table: Path) -> Layout:
    header, lines = _parse_csv(table)
    rows: dict[str, Row] = {}
    rejected: list[Rejected] = []
    disputed: set[str] = set()
    for line, cells in lines:
        row = _row(header, cells, line)
        if isinstance(row, Rejected):
            rejected.append(row)
        elif (first := rows.setdefault(row.name, row)) is not row:
            rejected.append(_repeated(row, first))
            if first.cells != row.cells:
                disputed.add(row.name)
    rejected += _forgotten(folder, _mentioned(lines) | rows.keys())
    return Layout(
        kind="labels.csv",
        columns=tuple(column for column in header if column != FILE_COLUMN),
        rows=tuple(row for row in rows.values() if row.name not in disputed),
        rejected=tuple(rejected),
    )


def _forgotten(folder: Path, mentioned: set[str]) -> list[Rejected]:
    reason = (
        f"no row of {TABLE_FILE} names it; add one (an empty target is allowed) to use it in "
        "pre-training"
    )
    return [
        Rejected(file=name, reason=reason) if _is_text(name) else _nameless(name)
        for name in image_names(folder)
        if name not in mentioned
    ]


def _parse_csv(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and numbered rows; comma, semicolon or tab, whichever the header is written with."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 ({error.reason}); save it as UTF-8 text") from error
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}") from error
    first_line = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num}: {error}") from error
    _check_header(table, header)
    if not lines:
        raise DataError(f"{table}: a header and no rows: no images to use")
    return header, lines


def _check_header(table: Path, header: list[str]) -> None:
    if FILE_COLUMN not in header:
        raise DataError(
            f"{table}: no column {FILE_COLUMN!r}; its columns are {', '.join(header) or 'none'}"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{table}: more than one column is named {repeated[0]!r}")


def _row(header: list[str], cells: list[str], line: int) -> Row | Rejected:
    if len(cells) != len(header):
        name = cells[header.index(FILE_COLUMN)] if len(cells) > header.index(FILE_COLUMN) else ""
        return Rejected(
            file=name or f"line {line}",
            reason=f"line {line} of {TABLE_FILE} has {len(cells)} cells, the header {len(header)}",
        )
    by_column = dict(zip(header, cells, strict=True))
    written = by_column.pop(FILE_COLUMN)
    if not written:
        return Rejected(file=f"line {line}", reason=f"line {line} of {TABLE_FILE} names no file")
    inside = relative_name(written)
    if inside is None:
        return Rejected(file=written, reason="the path leaves the folder, which is refused")
    return Row(name=inside, line=line, cells=by_column)


def relative_name(written: str) -> str | None:
    """The name inside the folder, whichever separator was typed; ``None`` where it leads out."""
    posix = written.replace("\\", "/")
    if posix.startswith("/") or posix[1:2] == ":":
        return None
    parts: list[str] = []
    for part in PurePosixPath(posix).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts) or None


def _repeated(row: Row, first: Row) -> Rejected:
    same = first.cells == row.cells
    verdict = "and is left out" if same else "and disagrees with it: neither is used"
    return Rejected(file=row.name, reason=f"line {row.line} repeats line {first.line} {verdict}")


def _mentioned(lines: list[tuple[int, list[str]]]) -> set[str]:
    """Names in any cell: a mask or a template beside an image is no forgotten image."""
    cells = {cell for _, row in lines for cell in row}
    return {inside for cell in cells if (inside := relative_name(cell)) is not None}
