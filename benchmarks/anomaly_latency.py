"""What an anomaly score costs on a device: each beside the reconstruction error alone.

    python benchmarks/anomaly_latency.py --work runs/latency --run RUN --memory RUN

One autoencoder is written as a candidate for each of its scores (`lineside rescore`), and sealed in
fp32 and in every 8-bit form that holds (widened) gates. With `--memory RUN`, a memory of good
patches is sealed in several sizes as well. All of them take turns at the same frames, in both
engines, batch 1, one thread; the time is that of the device's own inspector.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from form_turns import Form, measure, opened
from joint_runs import LINESIDE, run_verb
from results_folder import RESULTS

from lineside.bench import golden_frames, summarise
from lineside.bundle import open_bundle
from lineside.candidate import MEMORY
from lineside.verdict import Timings
from lineside_bench.record import circumstances, keep

SCORES: Final = ("recon", "elbo", "gradcon")
SIZES: Final = (100, 300, 1000, 3000, 10000)
"""Patches in the memory, up to as many as there are."""

FORMS: Final = ("fp32", "int8", "int8-mixed", "int8-distilled")


def score_candidates(run: Path, work: Path) -> dict[str, Path]:
    """A candidate for each score of one trained autoencoder; folders by score."""
    found = {}
    for score in SCORES:
        folder = work / f"score_{score}"
        run_verb("rescore", run, "--score", score, "--out", folder, "--resume")
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
        # They lie in the order of choice: the first of them are the core-set of so many.
        np.save(folder / MEMORY, patches[:size], allow_pickle=False)
        found[f"memory of {size}"] = folder
    return found


def seal_forms(
    candidates: dict[str, Path], work: Path
) -> tuple[dict[tuple[str, str], Path], dict[str, str]]:
    """Bundles by name and form, and why a form was refused."""
    key = work / "bench.key"
    if not key.exists():
        run_verb("keys", "new", "bench", "--out", work)
    bundles, refused = {}, {}
    for name, candidate in candidates.items():
        for form in FORMS:
            bundle = work / f"{candidate.parent.name}_{candidate.name}_{form}.lsb"
            # Wider gates than a factory would take: what is asked here is what a form costs.
            words = ("export", candidate, "--out", bundle, "--key", key, "--precision", form)
            gates = ("--max-flips", 20, "--max-drop", 0.05)
            told = bundle.with_suffix(".refused")
            if not bundle.exists() and not told.exists():
                why = refusal(*words, *gates)
                if why:
                    told.write_text(why, encoding="utf-8")
            if told.exists():
                refused[f"{name} {form}"] = told.read_text(encoding="utf-8")
            else:
                bundles[name, form] = bundle
    return bundles, refused


def refusal(*words: object) -> str:
    """Run a verb that may be refused; why, "" where it was not."""
    told = [str(LINESIDE), *map(str, words)]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def rows_of(forms: Sequence[Form], taken: Sequence[Sequence[Timings]]) -> list[dict[str, Any]]:
    """A row a form, with its time over that of the reconstruction error in the same engine."""
    times = {
        (form.network, form.engine, form.precision): next(
            stage for stage in summarise(timings) if stage.stage == "infer"
        )
        for form, timings in zip(forms, taken, strict=True)
    }
    rows = []
    for (network, engine, form), stage in times.items():
        recon = times.get(("recon", engine, form))
        rows.append(
            {
                "model": network,
                "engine": engine,
                "form": form,
                "infer_p50_us": round(stage.p50_us, 1),
                "infer_p90_us": round(stage.p90_us, 1),
                "times_recon": None if recon is None else round(stage.p50_us / recon.p50_us, 2),
            }
        )
    return rows


def show(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| model | engine | form | p50 [ms] | p90 [ms] | times recon |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        times = "" if row["times_recon"] is None else f"{row['times_recon']:.2f}"
        yield (
            f"| {row['model']} | {row['engine']} | {row['form']} | "
            f"{row['infer_p50_us'] / 1e3:.3f} | {row['infer_p90_us'] / 1e3:.3f} | {times} |"
        )


def main() -> None:
    """Write candidates, seal, take turns, record, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of candidates and bundles")
    parser.add_argument("--run", type=Path, required=True, help="a trained autoencoder")
    parser.add_argument("--memory", type=Path, help="a run with a memory of good patches")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULTS / "anomaly_latency.json")
    asked = parser.parse_args()
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    bundles, refused = seal_forms(score_candidates(asked.run, work), work)
    groups = [bundles]
    if asked.memory:
        more, refused_too = seal_forms(memory_candidates(asked.memory, work), work)
        groups.append(more)
        refused |= refused_too
    rows: list[dict[str, Any]] = []
    for group in groups:
        with opened(group, work / "bench.pub") as forms:
            with open_bundle(next(iter(group.values())), trust=[work / "bench.pub"]) as bundle:
                frames = golden_frames(bundle)
            rows += rows_of(forms, measure(forms, frames, asked.rounds))
    found = {
        **circumstances("latency of anomaly scores: one inspection, batch 1, one thread"),
        "rounds": asked.rounds,
        "refused": refused,
        "rows": rows,
    }
    keep(asked.out, found)
    print("\n".join(show(rows)))


if __name__ == "__main__":
    main()
