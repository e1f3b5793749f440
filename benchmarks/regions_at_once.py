"""32 regions of a frame at once: static batches of several sizes, one or as many as there are cores
side by side, each beside one region after the other.

    python benchmarks/regions_at_once.py bench-suite

Both engines, fp32 and int8, ViT-Ti at 64x64, one thread a lane; all take turns. Each form passes
the golden self-test first, as on a station.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from results_folder import RESULTS

from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside.choose import Candidate, open_proven
from lineside.engines import EngineSettings
from lineside.engines.machine import usable_cores
from lineside.engines.several import SeveralEngine, SeveralForm
from lineside.frame import Frame
from lineside.inspector import Inspector
from lineside.several import open_several
from lineside_bench.record import circumstances, keep
from lineside_bench.suite import read_suite
from lineside_bench.turns import ratio, take_turns

REGIONS: Final = 32
BATCHES: Final = (1, 4, 8, 16, 32)
GOAL_RATIO: Final = 0.8
_MODEL: Final = "vit_tiny"
_ALONE: Final = "one by one"
_ONE_THREAD: Final = EngineSettings(threads=1)


def list_tried() -> list[SeveralForm]:
    """One lane of each batch, and all cores as far as there are batches for them."""
    return [
        SeveralForm(batch=batch, lanes=lanes)
        for lanes in (1, usable_cores())
        for batch in BATCHES
        if 1 < batch * lanes <= REGIONS
    ]


@contextlib.contextmanager
def opened(bundle: Bundle, model: ModelEntry) -> Iterator[dict[str, Inspector]]:
    """By form: an inspector that judges several in it."""
    candidate = Candidate(engine=model.engine, precision=model.precision, threads=1)
    with contextlib.ExitStack() as stack:
        single = open_proven(bundle, model, candidate, _ONE_THREAD)
        stack.callback(single.close)
        found = {_ALONE: Inspector(bundle, single)}
        for form in list_tried():
            many = open_several(bundle, model, form, _ONE_THREAD)
            stack.callback(many.close)
            found[form.told()] = Inspector(bundle, SeveralEngine(single, many, form))
        yield found


def measure(bundle: Bundle, model: ModelEntry, rounds: int) -> list[dict[str, Any]]:
    """A row a form: milliseconds of one region, and their ratio to one after the other."""
    channels = bundle.manifest.contract.frame.channels
    side_px = bundle.manifest.contract.input.size_hw[0]
    shape = (REGIONS, side_px, side_px, channels)
    drawn = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    frames = [Frame(pixels_hwc=pixels) for pixels in drawn]
    with opened(bundle, model) as inspectors:
        ways = {
            name: lambda _, judge=inspector: judge.inspect_batch(frames)
            for name, inspector in inspectors.items()
        }
        taken, _ = take_turns(ways, rounds=rounds, warm_up=2)
    return [
        {
            "engine": model.engine,
            "form": model.precision,
            "computed": name,
            "region_ms": round(float(np.median(times)) / REGIONS / 1e3, 3),
            "ratio": ratio(taken, name, _ALONE),
        }
        for name, times in taken.items()
    ]


def show(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| engine | form | computed | a region [ms] | ratio (95 %; goal {GOAL_RATIO}) |"
    yield "|---|---|---|---|---|"
    for row in rows:
        told = row["ratio"]
        yield (
            f"| {row['engine']} | {row['form']} | {row['computed']} | {row['region_ms']:.2f} | "
            f"{told['p50']:.2f} ({told['low']:.2f} to {told['high']:.2f}) |"
        )


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suite", type=Path, help="of `lineside measure bundles`")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path, default=RESULTS / "regions_at_once.json")
    asked = parser.parse_args()
    suite = read_suite(asked.suite)
    rows: list[dict[str, Any]] = []
    for form in ("int8", "fp32"):
        with suite.open(suite.pick(_MODEL, form)) as bundle:
            for model in bundle.manifest.models:
                if model.precision == form:
                    rows += measure(bundle, model, asked.rounds)
    found = {
        **circumstances(f"{REGIONS} regions at once, one thread a lane"),
        "rounds": asked.rounds,
        "rows": rows,
    }
    keep(asked.out, found)
    print("\n".join(show(rows)))


if __name__ == "__main__":
    main()
