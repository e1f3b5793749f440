"""What a run says of where it comes from."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAY = "from lineside_trainer.runs.provenance import command; print(command())"


@pytest.mark.parametrize("by_hand", ["", "import sys; sys.argv[0] = '/opt/bin/lineside'; "])
def test_the_command_can_be_typed_again_however_python_was_started(by_hand: str) -> None:
    words = ["train", "--out", "runs/a b"]
    made = subprocess.run(
        [sys.executable, "-c", by_hand + SAY, *words], capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == "lineside train --out 'runs/a b'"
