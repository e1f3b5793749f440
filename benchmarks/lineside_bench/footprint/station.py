"""A whole station, `lineside run`: its start to the first verdict at the PLC, and its memory."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from lineside.bench import golden_frames
from lineside.errors import InputDataError
from lineside.frame import encode_png
from lineside_bench.broker import Broker, find_mosquitto
from lineside_bench.footprint.processes import ProcessFault, environment
from lineside_bench.footprint.starts import Say
from lineside_bench.fresh.telling import memory_kib
from lineside_bench.plc import Plc
from lineside_bench.station_file import STATION, write_station
from lineside_bench.suite import Sealed, Suite
from lineside_bench.verb import verb_command

_PART: Final = "part-0001"
_LIMIT_S: Final = 120.0


def measure_station(
    suite: Suite, sealed: Sealed, *, rounds: int, work: Path, say: Say
) -> dict[str, Any]:
    """Its picture waits in a folder when the station starts, so that nothing else is waited for.

    Args:
        suite: where the bundle is.
        sealed: what it judges by, the engine chosen and remembered before the first round.
        rounds: that count; one more before them.
        work: an empty folder.
        say: hears how far it is.

    Returns:
        ``absent`` says why where nothing was measured.
    """
    try:
        find_mosquitto()
    except InputDataError as error:
        return {"absent": str(error)}
    work.mkdir()
    broker = Broker(work)
    _lay_out(suite, sealed, broker, work)
    broker.start()
    try:
        found = [_start(broker, work, number, rounds, say) for number in range(1 + rounds)][1:]
    finally:
        broker.stop()
    taken_s, resident_mb = np.median(found, axis=0).tolist()
    return {
        "absent": "",
        "model": sealed.model,
        "form": sealed.form,
        "rounds": rounds,
        "until_heard_s": round(taken_s, 3),
        "resident_mb": round(resident_mb, 1),
    }


def _lay_out(suite: Suite, sealed: Sealed, broker: Broker, work: Path) -> None:
    with suite.open(sealed) as bundle:
        picture = encode_png(golden_frames(bundle)[0].pixels_hwc)
    write_station(work, suite, sealed, broker.url)
    (work / "frames" / f"{_PART}.png").write_bytes(picture)


def _start(broker: Broker, work: Path, number: int, rounds: int, say: Say) -> tuple[float, float]:
    """Seconds until the PLC has heard, and MB resident then."""
    say(f"station, round {number} of {rounds}")
    for old in work.glob("outbox.sqlite*"):
        old.unlink()
    plc = Plc(broker.port, STATION)
    plc.connect()
    command = verb_command("run", work / "station.toml")
    with (work / "station.log").open("wb") as log:
        started_ns = time.perf_counter_ns()
        running = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment(str(work / "cache"))
        )
    try:
        while _PART not in plc.arrived_ns:
            late = time.perf_counter_ns() - started_ns > _LIMIT_S * 1e9
            if running.poll() is not None or late:
                words = (work / "station.log").read_text("utf-8", errors="replace")[-1500:]
                raise ProcessFault(f"the station gives no verdict: {words}")
            time.sleep(0.005)
        held_kib = memory_kib(str(running.pid))["rss"]
    finally:
        running.terminate()
        running.wait()
        plc.close()
    return (plc.arrived_ns[_PART] - started_ns) / 1e9, held_kib * 1024 / 1e6
