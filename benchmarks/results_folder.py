"""Where this repository keeps what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parent / "results"
