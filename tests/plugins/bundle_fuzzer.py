"""Bundles that must be refused, made by the thousand: `python bundle_fuzzer.py --count N --seed S`.

Each mutant is a good bundle with one kind of damage (`bundle_damage`), or of lie that a trusted key
seals (`bundle_lies`), because the signature would hide everything behind it. A mutant that came out
as one of the good files, byte for byte, is drawn again: those alone may be opened.

Prints one JSON document. A case is made again by its seed and number alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from bundle_damage import DAMAGE, GOOD
from bundle_lies import LIES, giants
from bundle_vectors import TRUSTED

from lineside.bundle import open_bundle
from lineside.bundle.checks import check_bundle
from lineside.errors import BundleError

CASE_LIMIT_S: Final = 5.0
MAX_MESSAGE_LETTERS: Final = 1000
# How much the process may grow once warm: what verifying is promised, and the mutants themselves.
MEMORY_BYTES: Final = 16_000_000 + 8_000_000
FILE_SHARE: Final = 20  # every so many goes through a real file, as a device opens it
MAKERS: Final = (*DAMAGE, *LIES, giants)
GIANT_SHARE: Final = 100  # few, because each costs: one in so many


def make_mutant(seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the bytes of one case; never one of the good files."""
    random = Random(f"{seed} {number}")
    maker = giants if number % GIANT_SHARE == 0 else MAKERS[number % (len(MAKERS) - 1)]
    while (data := maker(random)) in GOOD:
        pass
    return maker.__name__, data


def _open(data: bytes, number: int, file: Path) -> None:
    if number % FILE_SHARE:
        check_bundle(memoryview(data), trusted=TRUSTED, source=str(file))
    else:
        file.write_bytes(data)
        open_bundle(file, trust=TRUSTED).close()


def _judge(data: bytes, number: int, file: Path) -> str:
    """The name of the refusal, or what is wrong with it, beginning with ``!``."""
    try:
        _open(data, number, file)
    except BundleError as error:
        words = str(error)
        if (
            words.startswith(f"{file}: ")
            and words.isprintable()
            and len(words) < MAX_MESSAGE_LETTERS
        ):
            return type(error).__name__
        return f"! told in {len(words)} letters: {words[:200]!r}"
    return "! was opened"


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"no answer after {CASE_LIMIT_S} s")


def _status_bytes(field: str) -> int:
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) * 1024


def _judge_in_time(data: bytes, number: int, file: Path) -> tuple[str, float]:
    """The refusal, and the CPU time it took, in seconds; no answer at all ends the run."""
    started_s = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, CASE_LIMIT_S)
    try:
        found = _judge(data, number, file)
    except Exception as error:
        raise AssertionError(f"case {number}: {error!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return found, time.process_time() - started_s


def run(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge so many mutants; memory beyond the limit is refused by the kernel meanwhile."""
    file = folder / "mutant.lsb"
    signal.signal(signal.SIGALRM, _ring)
    for warm_up in range(300):
        _judge_in_time(make_mutant(seed + 1, warm_up)[1], warm_up, file)
    before_bytes = _status_bytes("VmHWM")
    allowed = _status_bytes("VmData") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    refusals: dict[str, Counter[str]] = {maker.__name__: Counter() for maker in MAKERS}
    wrong: list[str] = []
    slowest = (0.0, "")
    for number in range(count):
        kind, data = make_mutant(seed, number)
        found, took_s = _judge_in_time(data, number, file)
        slowest = max(slowest, (took_s, f"{kind} {number}"))
        if found.startswith("!"):
            wrong.append(f"{kind} {number}: {found}")
        else:
            refusals[kind][found] += 1
    return {
        "seed": seed,
        "refused": sum(found.total() for found in refusals.values()),
        "refusals": refusals,
        "wrong": wrong[:50],
        "slowest_s": slowest,
        "grown_bytes": _status_bytes("VmHWM") - before_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(told.count, told.seed, Path(folder))
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
