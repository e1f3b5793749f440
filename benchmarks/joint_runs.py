"""Runs on synthetic joints that benchmarks share: made once in a work folder, gone on with after a
stop, left alone where they are finished."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

LINESIDE = Path(sys.executable).with_name("lineside")
TARGET = "delta_b_max"
LIMIT = "0.2"
"""ΔB_max beyond which a joint counts as defective (Röhrich et al. 2025, sec. 3.2)."""


class Work:
    """Where the runs are, and what all of them are told.

    Args:
        folder: of everything; runs of other data or precision have their own inside.
        parts: of the synthetic joints; five images each.
        precision: "bf16" or "fp32".
    """

    def __init__(self, folder: Path, parts: int, precision: str) -> None:
        self.folder = folder / f"{parts}_parts_{precision}"
        self.data = self.folder / "joints"
        self._parts = parts
        self._precision = precision

    def prepare(self) -> None:
        """Compute the joints where they are missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.data / "labels.csv").exists():
            run_verb("dataset", "joints", self.data, "--parts", self._parts, "--seed", 7)

    def run(self, verb: str, name: str, *options: object) -> dict[str, Any]:
        """One run by `lineside VERB`; its `result.json`."""
        out = self.folder / name
        result = out / "result.json"
        if not result.exists():
            shared = ("--precision", self._precision, "--out", out)
            # Begun before: --resume is then told the same again, and refuses what differs.
            again = ("--resume",) if (out / "experiment.toml").exists() else ()
            run_verb(verb, *options, *shared, *again)
        document: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return document


def run_verb(verb: str, *arguments: object) -> str:
    """Run `lineside VERB`, words of its progress to the terminal; what it printed.

    Raises:
        SystemExit: it failed; it has said why.
    """
    words = [verb, *map(str, arguments)]
    print(f"$ lineside {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run([LINESIDE, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"lineside {verb} ended with exit code {done.returncode}")
    return done.stdout
