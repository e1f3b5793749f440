"""What an anomaly score costs on a device: each beside the reconstruction error alone.

    python benchmarks/anomaly_latency.py --work runs/anomaly --run runs/anomaly/beta_vae_gradcon/seed0

One autoencoder is written as a candidate for each of its scores, and sealed in fp32 and in the
fastest form with fewer bits that holds its gates. With `--memory RUN`, a memory of good patches is
sealed in several sizes as well. All of them take turns at the same frames, in both engines, batch
1, one thread; the time is that of the device's own inspector.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from joint_runs import run_verb
from record import RESULTS, circumstances, keep
from turns import Form, measure, opened

from lineside.bench import golden_frames, summarise
from lineside.bundle import open_bundle
from lineside.candidate import MEMORY
from lineside.verdict import Timings

SCORES: Final = ("recon", "elbo", "gradcon")
SIZES: Final = (100, 300, 1000, 3000, 10000)
"""Patches in the memory, up to as many as there are."""

LEAN: Final = "fewest bits"
FLOAT: Final = "fp32"


def score_candidates(run: Path, work: Path) -> dict[str, Path]:
    """A candidate for each score of one trained autoencoder; folders by score."""
    found = {}
    for score in SCORES:
        folder = work / score
        if not (folder / "result.json").exists():
            run_verb("rescore", run, "--score", score, "--out", folder)
        found[score] = folder / "candidate"
    return found


def memory_candidates(run: Path, work: Path) -> dict[str, Path]:
    """The same network with memories of several sizes; folders by name."""
    source = run / "candidate"
    patches = np.load(source / MEMORY, allow_pickle=False)
    found = {}
    for size in (*(size for size in SIZES if size < len(patches)), len(patches)):
        folder = work / f"memory_{size}"
        shutil.copytree(source, folder, dirs_exist_ok=True)
        # The core-set is in the order of choice: the first of it are the core-set of so many.
        np.save(folder / MEMORY, patches[:size], allow_pickle=False)
        found[f"memory of {size}"] = folder
    return found
