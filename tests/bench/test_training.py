"""Images/s of training: the verbs' own loop and a plain one learn the same from the same images."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineside_bench.subject import Amount, make_subject, write_data
from lineside_bench.training import measure_way

AMOUNT = Amount(parts=12, size_px=32, batch_images=8, epochs=2, seed=7)


@pytest.mark.parametrize("way", ["mae", "tuning"])
def test_every_loop_is_timed(way: str, tmp_path: Path) -> None:
    joints = write_data(tmp_path, AMOUNT)

    row = measure_way(way, AMOUNT, 1, joints, tmp_path / "work", None)  # type: ignore[arg-type]

    assert {"lineside", "plain, 0 workers"} <= set(row["images_per_s"])
    assert all(speeds["median"] > 0 for speeds in row["images_per_s"].values())
    assert 0 < row["not_in_network"]["median"] < 1


def test_the_network_is_the_same_each_time(tmp_path: Path) -> None:
    subject = make_subject("mae", write_data(tmp_path, AMOUNT), AMOUNT, tmp_path / "work")

    first, second = (subject.fresh().state_dict() for _ in range(2))

    assert all(bool((first[name] == second[name]).all()) for name in first)
