"""One array of images, exactly as the device would prepare them, wherever it lies."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lineside.contract import InputSpec
from lineside.errors import StorageError
from lineside.frame import read_frame
from lineside.preprocess import prepare
from lineside_trainer.data import ImageStore, Table, read_table
from lineside_trainer.errors import DataError

INPUT = InputSpec(size_hw=(16, 12), channels=1)


@pytest.fixture(scope="module", params=["gray8", "gray16", "colour8"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp(request.param)
    generator = np.random.default_rng(4)
    for number in range(20):
        size = (int(generator.integers(8, 40)), int(generator.integers(8, 40)))
        shape = (*size, 3) if request.param == "colour8" else size
        deep = request.param == "gray16"
        pixels = generator.integers(0, 4096 if deep else 256, shape, np.uint16)
        pixels = pixels if deep else pixels.astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number:03d}.png"), pixels)
    return read_table(folder, target=None, group=None)


def test_every_row_is_what_the_device_prepares(table: Table) -> None:
    store = ImageStore.build(table, INPUT)
    assert store.images_nhwc.shape == (20, 16, 12, 1)
    assert store.images_nhwc.dtype == torch.uint8
    for row, record in enumerate(table.records):
        frame = read_frame(record.file)
        expected = prepare(frame.pixels_hwc, table.frame, INPUT)
        assert np.array_equal(store.images_nhwc[row].numpy(), expected), record.name


def test_mapped_from_a_file_is_the_same_data(table: Table, tmp_path: Path) -> None:
    in_memory = ImageStore.build(table, INPUT)
    mapped = ImageStore.build(table, INPUT, folder=tmp_path / "run", mapped_from_bytes=1)
    assert torch.equal(in_memory.images_nhwc, mapped.images_nhwc)
    assert mapped.digest == in_memory.digest
    assert mapped.mapped_file == tmp_path / "run" / "images.u8"
    assert mapped.mapped_file.read_bytes() == in_memory.images_nhwc.numpy().tobytes()
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["images.u8"]
    rows = torch.tensor([3, 3, 0])
    assert torch.equal(mapped.rows(rows), in_memory.images_nhwc[rows])


def test_the_digest_sees_one_bit_and_the_shape(table: Table) -> None:
    store = ImageStore.build(table, INPUT)
    changed = store.images_nhwc.clone()
    changed[-1, -1, -1, -1] ^= 1
    assert ImageStore(images_nhwc=changed).digest != store.digest
    turned = store.images_nhwc.reshape(20, 12, 16, 1)
    assert ImageStore(images_nhwc=turned).digest != store.digest
    assert ImageStore(images_nhwc=store.images_nhwc.clone()).digest == store.digest


def test_a_large_array_needs_a_folder(table: Table) -> None:
    with pytest.raises(DataError, match="name a folder"):
        ImageStore.build(table, INPUT, mapped_from_bytes=1)


def test_a_disk_that_refuses_is_a_storage_error(table: Table, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"images\.u8"):
        ImageStore.build(table, INPUT, folder=tmp_path / "run", mapped_from_bytes=1)


def test_a_disk_without_room_is_a_storage_error_and_leaves_nothing(
    table: Table, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match="the images need"):
            ImageStore.build(table, INPUT, folder=tmp_path, mapped_from_bytes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_has_gone_leaves_no_half_made_array(table: Table, tmp_path: Path) -> None:
    gone = replace(table.records[-1], file=tmp_path / "gone.png")
    later = replace(table, records=(*table.records[:-1], gone), kept_pixels=())
    with pytest.raises(DataError, match=r"gone\.png"):
        ImageStore.build(later, INPUT, folder=tmp_path / "run", mapped_from_bytes=1)
    assert list((tmp_path / "run").iterdir()) == []


def test_progress_counts_to_the_end(table: Table) -> None:
    seen: list[tuple[int, int]] = []
    ImageStore.build(table, INPUT, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 20) for done in range(1, 21)]


def test_the_store_may_change_places(table: Table) -> None:
    store = ImageStore.build(table, INPUT)
    assert store.to("cpu").device == torch.device("cpu")
    assert store.to("cpu").digest == store.digest


def test_frames_kept_from_checking_are_not_decoded_again(table: Table, tmp_path: Path) -> None:
    """The files are gone, the store is built all the same; without the kept frames it cannot."""
    folder = tmp_path / "moved"
    shutil.copytree(table.folder, folder)
    copied = read_table(folder, target=None, group=None)
    expected = ImageStore.build(copied, INPUT).digest
    shutil.rmtree(folder)
    assert ImageStore.build(copied, INPUT).digest == expected
    forgetful = Table(
        **{
            name: getattr(copied, name)
            for name in ("folder", "records", "rejected", "unlabelled", "frame")
        },
        target=None,
        group=None,
        split_column=None,
    )
    with pytest.raises(DataError, match=r"000\.png.*readable when the table was made"):
        ImageStore.build(forgetful, INPUT)
