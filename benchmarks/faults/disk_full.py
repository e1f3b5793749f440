"""The outbox's disk becomes full while parts keep coming, and room is made again.

    python benchmarks/faults/disk_full.py --out benchmarks/results/faults_disk_full.json
    python benchmarks/faults/disk_full.py --quick

The outbox lies on a file system of its own, 32 MiB of memory, in a mount name space that ends with
the script (`unshare`); something else fills it to the last byte. The line must hear `disk`, within
the station's state; a station that is killed meanwhile must not start but say why (exit code 7).
When there is room again everything that was presented gets its verdict.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

from line import Line, Outcome, open_line
from script import Trial, prove, say

from lineside.verdict import Reason

_MARK: Final = "LINESIDE_FAULTS_MOUNTS"
_DISK_MIB: Final = 32
# As much smaller as the disk: by default a station says `disk` with less than 256 MiB free.
_ROOM: Final = "max_mib = 4\njournal_max_mib = 1\nkeep_free_mib = 0"
_STORAGE_CODE: Final = 7


def fill(disk: Path) -> None:
    """To the last byte, with a file that `free` takes away."""
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def free(disk: Path) -> None:
    """Make room again."""
    (disk / "ballast").unlink()


def fill_often(line: Line, disk: Path, times: int, chance: random.Random) -> Outcome:
    """Fill and free so often; every other time the station is killed while nothing fits."""
    line.feeder.start()
    line.start_station()
    for number in range(times):
        line.wait_for_live_verdicts(3)
        time.sleep(chance.uniform(0, 0.5))
        fill(disk)
        line.wait_for(lambda: line.state.get("reason") == Reason.DISK.value, "the state `disk`")
        time.sleep(chance.uniform(0, 1))
        if number % 2:
            _kill_while_full(line)
        free(disk)
        if number % 2:
            line.start_station()
        line.wait_for(lambda: line.state.get("state") == "online", "an end of the fault")
    line.wait_for_live_verdicts(3)
    return line.settle()


def _kill_while_full(line: Line) -> None:
    """Killed on a full disk it either starts, and tells the fault, or ends and says why."""
    line.kill_station()
    process = line.start_station()
    told = f"{line.outbox_path}: "
    line.wait_for(
        lambda: process.poll() is not None or line.state.get("reason") == Reason.DISK.value,
        "a station that tells the full disk",
        may_end=True,
    )
    if process.poll() is not None:
        words = line.last_words()
        assert process.returncode == _STORAGE_CODE, words
        assert told in words, words
    line.kill_station()


def measure(trial: Trial) -> Mapping[str, Outcome]:
    """The one case."""
    room = trial.room("full")
    disk = room / "disk"
    disk.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs")
    subprocess.run(["mount", *options, str(disk)], check=True)
    try:
        outbox = disk / "outbox.sqlite"
        with open_line(room, trial.bundle, outbox=outbox, room=_ROOM) as line:
            outcome = fill_often(line, disk, trial.times, trial.random)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    say(f"{trial.times} times full, {trial.times // 2} of them killed and started meanwhile")
    return {"disk full": outcome}


def enter_mounts() -> None:
    """Begin again where mounting is allowed and nobody else sees it; needs no root."""
    if _MARK in os.environ:
        return
    program = shutil.which("unshare")
    assert program is not None, "unshare is missing; `apt-get install util-linux` brings it"
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    words = [program, *root, "--mount", sys.executable, *sys.argv]
    os.execve(program, words, {**os.environ, _MARK: "1"})


if __name__ == "__main__":
    enter_mounts()
    sys.exit(prove("the outbox's disk full and free again", measure, full=30, quick=4))
