"""A sample of benchmarks/faults/transfer.py: processes, killed while a bundle is on its way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transfer import KINDS, Found, open_hall, suffer


@pytest.mark.broker
def test_kill_9_of_whatever_takes_part_leaves_the_file_as_it_was_sent(tmp_path: Path) -> None:
    found = Found()
    with open_hall(tmp_path / "hall") as hall:
        suffer(hall, random.Random(3), found, KINDS)
    assert found.kills == dict.fromkeys(KINDS, 1)
    assert (found.transfers, found.wrong, found.failed) == (1, 0, 0)
