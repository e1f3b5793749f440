"""What the bundle reader in C costs on a Cortex-M4: flash, memory, deepest stack.

Needs Debian's gcc-arm-none-eabi. With ``--monocypher`` (a folder with ``monocypher.c`` of
Monocypher 4 and its ``monocypher-ed25519.c``) also what Ed25519 adds to it.

    python benchmarks/c_reader_size.py --keep [--monocypher DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from results_folder import RESULTS

from lineside_bench.record import circumstances, keep

READER: Final = Path(__file__).parents[1] / "firmware_bridge/c"


def measure(monocypher: Path | None) -> dict[str, Any]:
    """As ``make -C firmware_bridge/c cortex-m`` prints it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "cortex_m.py", "--json", "--build", folder]
        if monocypher is not None:
            command += ["--monocypher", str(monocypher.resolve())]
        done = subprocess.run(command, cwd=READER, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--monocypher", type=Path)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    told = parser.parse_args()
    found = {
        **circumstances("flash, memory and stack of the bundle reader in C, in bytes"),
        **measure(told.monocypher),
    }
    print(json.dumps(found, indent=1))
    if told.keep:
        keep(RESULTS / "c_reader_size.json", found)


if __name__ == "__main__":
    main()
