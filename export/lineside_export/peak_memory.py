"""A process that opens one form, runs it, and prints how much memory it held at most.

It imports the device's runtime alone: importing torch would take more than any model here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lineside.bundle import ModelEntry
from lineside.contract import decode_contract
from lineside.engines import EngineSettings, open_engine

ENTRY: Final = "entry.json"
CONTRACT: Final = "contract.json"
_RUNS: Final = 5


def main(folder: Path) -> None:
    """Print the peak in bytes (VmHWM of proc(5), which counts this process and no parent)."""
    entry = msgspec.json.decode((folder / ENTRY).read_bytes(), type=ModelEntry)
    contract = decode_contract((folder / CONTRACT).read_bytes(), source=CONTRACT)
    engine = open_engine(
        entry,
        lambda name: memoryview((folder / name).read_bytes()),
        contract,
        EngineSettings(threads=1),
    )
    frame = np.zeros((1, *contract.input.size_hw, contract.input.channels), np.uint8)
    for _ in range(_RUNS):
        engine.infer(frame)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak_kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak_kib) * 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
