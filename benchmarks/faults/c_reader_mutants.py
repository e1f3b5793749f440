"""Whether the bundle readers in C and in Python ever disagree, and whether C errs in memory.

    python benchmarks/faults/c_reader_mutants.py [--count 100000] [--fuzz 2000000] [--keep]

First the mutants of `bundle_fuzzer`, damaged and lying, are shown to both readers: what one refuses
the other must refuse, but for what docs/bundle-format.md lets a reader pass over that runs no
model. Then the reader alone, under the address and undefined-behaviour sanitizers, is given bundles
changed at random behind a seal that is taken for good, from storage that fails or changes then.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2] / "tests/plugins"))

from bundle_fuzzer import make_mutant
from c_reader import Comparison, CReader, compare, run_make
from results_folder import RESULTS

from lineside_bench.record import circumstances, keep

BATCH: Final = 5000
FUZZ_BATCH: Final = 100_000
_ROW: Final = re.compile(r"^ *([0-9]+)  ([a-z ]{12}) (.+)$", re.MULTILINE)


def disagree(reader: CReader, seed: int, count: int) -> Comparison:
    """Both readers over so many mutants, a batch at a time."""
    found = Comparison()
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        batch = compare(reader, [make_mutant(seed, number) for number in numbers])
        found.bundles += batch.bundles
        found.refusals += batch.refusals
        found.other_class += batch.other_class
        found.passed_over += batch.passed_over
        found.differ += batch.differ
        print(f"{found.bundles} mutants, {len(found.differ)} told apart", flush=True)
    return found


def fuzz(build: Path, seed: int, count: int) -> Counter[str]:
    """How often each result came; a sanitizer that speaks up ends the run."""
    found: Counter[str] = Counter()
    for first in range(0, count, FUZZ_BATCH):
        size = min(FUZZ_BATCH, count - first)
        variables = (f"FUZZ_COUNT={size}", f"FUZZ_SEED={seed + first}")
        for times, _, told in _ROW.findall(run_make("fuzz", build, *variables)):
            found[told] += int(times)
        print(f"{found.total()} bundles behind the seal", flush=True)
    return found


def main() -> int:
    """Measure, print, and keep where asked to; 1 where anything is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--fuzz", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="record benchmarks/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder)
        compared = disagree(CReader(build), options.seed, options.count)
        fuzzed = fuzz(build, options.seed, options.fuzz)
    found: dict[str, Any] = {
        "seed": options.seed,
        "mutants": compared.bundles,
        "taken_by_one_reader_alone": compared.differ,
        "refused_by_both": dict(compared.refusals),
        "refused_by_both_for_another_reason": dict(compared.other_class),
        "wrong_only_in_what_c_passes_over": dict(compared.passed_over),
        "fuzzed": fuzzed.total(),
        "fuzzed_results": dict(fuzzed),
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    if options.keep:
        what = "mutated bundles that the readers in C and in Python judge alike; C under sanitizers"
        command = shlex.join(["python", "benchmarks/faults/c_reader_mutants.py", *sys.argv[1:]])
        keep(
            RESULTS / "c_reader_mutants.json", {**circumstances(what), "command": command, **found}
        )
    return 1 if compared.differ or fuzzed.total() != options.fuzz else 0


if __name__ == "__main__":
    sys.exit(main())
