"""Files that are written whole or not at all, and what they never replace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lineside.durable import write_durably
from lineside.errors import StorageError


def test_a_link_stays_one_and_what_it_points_at_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to("there/real.json")

    write_durably(link, [b"new"])

    assert link.is_symlink()
    assert (tmp_path / "there/real.json").read_bytes() == b"new"


def test_a_pipe_or_device_keeps_its_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)

    for name in ("pipe", "link"):
        with pytest.raises(StorageError, match=f"{name}: cannot be written: it is no regular file"):
            write_durably(tmp_path / name, [b"new"])

    assert pipe.is_fifo()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no regular file"):
        write_durably(tmp_path, [b"new"])
