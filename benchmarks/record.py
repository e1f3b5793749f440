"""What every recorded figure carries with it: command, date, machine, load, versions."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lineside_trainer.runs.provenance import command, machine, versions

RESULTS: Final = Path(__file__).parent / "results"


def circumstances(what: str, device: str = "cpu") -> dict[str, Any]:
    """The head of a recorded document.

    Args:
        what: was measured, in words with units.
        device: ``cpu`` or ``cuda``.
    """
    return {
        "what": what,
        "command": f"python benchmarks/{command()}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(device),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": versions(),
    }


def keep(path: Path, found: Mapping[str, Any]) -> None:
    """Write the document as it lies in `results`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
