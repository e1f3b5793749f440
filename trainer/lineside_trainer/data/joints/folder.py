"""The data set as a folder: written aside whole, then renamed into place."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.durable import write_durably
from lineside.errors import StorageError
from lineside_trainer.data.joints.part import CYCLES, Inspected, led_type_of, make_part
from lineside_trainer.data.joints.thermal import MEASUREMENT_NOISE
from lineside_trainer.errors import DataError

COLUMNS: Final = (
    "file",
    "part",
    "led_type",
    "cycles",
    "b_max",
    "delta_b_max",
    "crack_area_fraction",
    "void_area_fraction",
    "crack_mask",
    "void_mask",
)
MARKER: Final = "joints.json"
_OURS: Final = frozenset({MARKER, "README.md", "labels.csv", "images", "masks"})

_PICTURE: Final = re.compile(r"p\d{5}_tsc\d{4}(_crack|_void)?\.png")

PARTS_MOST: Final = 100_000
SIZE_LEAST_PX: Final = 32
SIZE_MOST_PX: Final = 512
DEFECT_LIMIT: Final = 0.2
"""Röhrich et al., sec. 3.2: an LED beyond it is defective."""


class JointsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the data set is a function of; kept in it as ``joints.json``."""

    kind: Literal["lineside synthetic joints"] = "lineside synthetic joints"
    version: Literal[1] = 1
    parts: int
    seed: int
    size_px: int


@dataclass(frozen=True, kw_only=True)
class JointsSummary:
    """Figures of a data set that was just written.

    Attributes:
        images: how many.
        parts: how many.
        beyond_limit: images whose ΔB_max lies beyond the paper's 20 %.
        mean_delta_b_max: over all images, relative.
        largest_delta_b_max: over all images, relative.
    """

    images: int
    parts: int
    beyond_limit: int
    mean_delta_b_max: float
    largest_delta_b_max: float


def write_joints(
    out: Path, settings: JointsSettings, progress: Callable[[int, int], None] | None = None
) -> JointsSummary:
    """Make the data set; the same settings give the same bytes.

    Args:
        out: a new or empty folder, or one that holds an earlier output of this function and
            nothing else, which is then replaced.
        settings: parts, seed, size.
        progress: called with (parts done, parts).

    Raises:
        DataError: impossible settings, or ``out`` holds something that is not ours.
        StorageError: the disk refuses.
    """
    check_settings(settings)
    out = out.resolve()
    aside = out.with_name(f".{out.name}.part-{os.getpid()}")
    try:
        check_free(out)
        summary = _write_all(aside, settings, progress)
        _put_in_place(aside, out)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return summary


def check_settings(settings: JointsSettings) -> None:
    """Refuse impossible settings.

    Raises:
        DataError: a number out of range.
    """
    ranges = (
        ("parts", settings.parts, 1, PARTS_MOST),
        ("seed", settings.seed, 0, 2**63 - 1),
        ("size", settings.size_px, SIZE_LEAST_PX, SIZE_MOST_PX),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise DataError(f"{name} {value}: between {least} and {most} is possible")


def check_free(out: Path) -> None:
    """Refuse to write over anything but an earlier output of ours.

    Raises:
        DataError: ``out`` is a file, or a folder with something else in it.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder")
    present = {entry.name for entry in out.iterdir()}
    foreign = sorted(present - _OURS) + [
        f"{sub}/{entry.name}"
        for sub in ("images", "masks")
        if (out / sub).is_dir()
        for entry in sorted((out / sub).iterdir())
        if not _PICTURE.fullmatch(entry.name)
    ]
    if present and (foreign or not _is_marker(out / MARKER)):
        shown = ", ".join(foreign[:3] or sorted(present)[:3])
        raise DataError(
            f"{out}: holds {shown}, which this command did not write; name an empty folder"
        )


def _is_marker(path: Path) -> bool:
    try:
        msgspec.json.decode(path.read_bytes(), type=JointsSettings)
    except (OSError, msgspec.DecodeError):
        return False
    return True


def _write_all(
    folder: Path, settings: JointsSettings, progress: Callable[[int, int], None] | None
) -> JointsSummary:
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True)
    rows: list[tuple[str, ...]] = []
    increases: list[float] = []
    for number, inspected in enumerate(_made_parts(settings)):
        rows += [_write_images(folder, number, one) for one in inspected]
        increases += [one.delta_b_max for one in inspected]
        if progress is not None:
            progress(number + 1, settings.parts)
    write_durably(folder / "labels.csv", [_table(rows)])
    write_durably(folder / "README.md", [_readme(settings).encode()])
    write_durably(folder / MARKER, [msgspec.json.encode(settings), b"\n"])
    return JointsSummary(
        images=len(rows),
        parts=settings.parts,
        beyond_limit=sum(increase > DEFECT_LIMIT for increase in increases),
        mean_delta_b_max=float(np.mean(increases)),
        largest_delta_b_max=max(increases),
    )


def _made_parts(settings: JointsSettings) -> Iterator[tuple[Inspected, ...]]:
    """In order, made a few ahead in threads: numpy and OpenCV let go of the interpreter."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for first in range(0, settings.parts, 8 * workers):
            numbers = range(first, min(first + 8 * workers, settings.parts))
            yield from pool.map(
                lambda number: make_part(number, seed=settings.seed, size_px=settings.size_px),
                numbers,
            )


def _write_images(folder: Path, number: int, one: Inspected) -> tuple[str, ...]:
    part = f"p{number:05d}"
    stem = f"{part}_tsc{one.cycles:04d}"
    image, crack, void = f"images/{stem}.png", f"masks/{stem}_crack.png", f"masks/{stem}_void.png"
    (folder / image).write_bytes(_png(one.image_hw))
    (folder / crack).write_bytes(_png(one.crack_mask_hw))
    (folder / void).write_bytes(_png(one.void_mask_hw))
    return (
        *(image, part, led_type_of(number).name, str(one.cycles)),
        *(f"{one.b_max:.6f}", f"{one.delta_b_max:.6f}"),
        *(f"{one.crack_area_fraction:.6f}", f"{one.void_area_fraction:.6f}"),
        *(crack, void),
    )


def _png(pixels_hw: NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".png", pixels_hw)
    assert encoded, "OpenCV encodes any 8-bit gray picture"
    return bytes(data)


def _table(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def _put_in_place(aside: Path, out: Path) -> None:
    if out.exists():
        former = out.with_name(f".{out.name}.former-{os.getpid()}")
        out.rename(former)
        aside.rename(out)
        shutil.rmtree(former)
    else:
        aside.rename(out)


def _readme(settings: JointsSettings) -> str:
    return f"""# Synthetic LED solder joints

Computed pictures, not measured ones: {settings.parts} parts, each after {_listed(CYCLES)}
thermal shock cycles, {settings.size_px}x{settings.size_px} pixels, 8-bit gray. They imitate the
scanning acoustic microscopy of Röhrich et al., "Masked Autoencoder Self Pre-Training for Defect
Detection in Microelectronics", sec. 3. Dark: solder pads. Bright: gaps, round voids, and cracks
that start at voids. Free to use for anything.

Made by this command, which gives the same bytes again:

    lineside dataset joints OUT --parts {settings.parts} --seed {settings.seed} \
--size {settings.size_px}

| column of labels.csv | meaning |
|---|---|
| `file` | the picture |
| `part` | the LED; its five pictures share it: group by this column |
| `led_type` | one of nine footprints |
| `cycles` | thermal shock cycles so far |
| `b_max` | B_max as measured, in units of the sound part's thermal resistance, \
{MEASUREMENT_NOISE:.1%} noise |
| `delta_b_max` | B_max(t) / B_max(0) - 1 (eq. 1); beyond {DEFECT_LIMIT} the paper calls it \
defective |
| `crack_area_fraction`, `void_area_fraction` | of the pads' area, without noise |
| `crack_mask`, `void_mask` | pictures, 255 where damaged, placed as in `file` |
"""


def _listed(numbers: tuple[int, ...]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}"
