"""The README's table of figures is what the recorded results say, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from lineside.errors import InputDataError
from lineside_bench.readme import ROWS, figure_table, put_table

ROOT: Final = Path(__file__).parents[2]


def test_the_readme_says_what_was_recorded() -> None:
    text = (ROOT / "README.md").read_text("utf-8")

    assert put_table(text, figure_table(ROOT / "benchmarks/results")) == text, (
        "run `lineside measure readme README.md benchmarks/results`"
    )


def test_every_row_has_its_result() -> None:
    recorded = {path.stem for path in (ROOT / "benchmarks/results").glob("*.json")}

    assert not {figure.name for figure in ROWS} - recorded


def test_a_readme_without_a_place_is_refused() -> None:
    with pytest.raises(InputDataError, match="no place for figures"):
        put_table("# Lineside\n", "| a |")
