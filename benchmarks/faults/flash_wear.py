"""How many bytes a station's outbox writes to the disk for each verdict, and what that depends on.

    python benchmarks/faults/flash_wear.py [--verdicts 1000] [--keep]

Counted by the kernel for this process (`write_bytes` of `/proc/self/io`: pages handed to the disk;
what the file system adds of its own is not in it, nor what the flash controller does). Each row
gives verdicts as a station does, one journal entry each, and has them acknowledged soon after, as
a broker does. Rows that vary page size and log length do so with plain SQLite and the same tables.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1]))

from results_folder import RESULTS

from lineside.mqtt.schema import VERDICT_VERSION
from lineside.outbox import Draft, JournalEntry, Outbox, OutboxSettings, Stamp, encode_entry
from lineside_bench.record import circumstances, keep

ENTRY: Final = encode_entry(
    JournalEntry(
        turn="a1b2c3d4e5f60718",
        part="LED-000317",
        evaluation=2,
        reason="beyond_limit",
        score=0.7312041,
        limit=0.5,
        unit="K/W",
        product="led-joint",
        bundle="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        engine="openvino/int8",
        rule="sealed",
        ok_limit=0.5,
        not_ok_limit=0.6,
        taken_unix_ns=1795212345678901234,
        latency_us=4180.25,
        frame_source="folder:/var/lib/lineside/frames",
        frame_sha256="5d41402abc4b2a76b9719d911017c592ae0fd5d8e5a6a8ad0fbdfb9c3ad47f01",
    )
)
PAYLOAD: Final = (
    b'{"v":%d,"seq":%d,"id":"%s","part":"LED-000317","t":1795212345678,"exp":1795212405678,'
    b'"ev":2,"score":0.731204,"limit":0.5,"unit":"K/W","reason":"beyond_limit","code":1,'
    b'"model":"9f86d081884c"}'
)
NEVER: Final = threading.Event()
MIB: Final = 2**20


def main() -> None:
    """Measure, print, and keep where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verdicts", type=int, default=1000, help="of each row")
    parser.add_argument("--keep", action="store_true", help="record benchmarks/results")
    options = parser.parse_args()
    found: dict[str, Any] = {
        "entry_bytes": len(ENTRY),
        "payload_bytes": len(encode(Stamp(seq=1042, job_id="5d1f0c9a0000000412"))),
        "outbox": [
            wear(options.verdicts, every_s=every_s, group=group, acknowledged=acknowledged)
            for every_s, group, acknowledged in (
                *((0.1, 1, True), (0.02, 1, True), (0.02, 1, False)),
                *((0.02, 10, True), (0.02, 40, True)),
            )
        ],
        "sqlite": [
            sqlite_wear(options.verdicts, page_bytes=page_bytes, log_bytes=log_bytes)
            for page_bytes, log_bytes in (
                *((1024, 4 * MIB), (2048, MIB), (2048, 4 * MIB), (2048, 16 * MIB)),
                *((4096, 4 * MIB), (8192, 4 * MIB)),
            )
        ],
    }
    show(found)
    if options.keep:
        record(found)


def encode(stamp: Stamp) -> bytes:
    """A payload of the usual length."""
    return PAYLOAD % (VERDICT_VERSION, stamp.seq, stamp.job_id.encode())


def wear(verdicts: int, *, every_s: float, group: int, acknowledged: bool) -> dict[str, Any]:
    """Bytes of each verdict through the station's own outbox.

    Args:
        every_s: a group of verdicts comes so often.
        group: so many at once, as one commit.
        acknowledged: a broker acknowledges each group at once.
    """
    count = max(verdicts // group, 30) * group
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        with counted() as bytes_of:
            outbox = Outbox(OutboxSettings(path=Path(folder) / "outbox.sqlite"))
            for first in range(0, count, group):
                for _ in range(group):
                    outbox.put(Draft(encode=encode, entry=ENTRY), stopping=NEVER)
                outbox.flush(60)
                if acknowledged:
                    outbox.acknowledge(range(first + 1, first + group + 1))
                time.sleep(every_s)
            outbox.close()
        return {
            "every_s": every_s,
            "group": group,
            "acknowledged": acknowledged,
            "verdicts": count,
            "kib_per_verdict": round(bytes_of() / count / 1024, 2),
        }


def sqlite_wear(verdicts: int, *, page_bytes: int, log_bytes: int) -> dict[str, Any]:
    """The same tables with other page sizes and log lengths; each verdict a commit of its own.

    The acknowledgement of the one before shares it.
    """
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, counted() as bytes_of:
        file = sqlite3.connect(Path(folder) / "o.sqlite", isolation_level=None)
        file.executescript(
            f"PRAGMA page_size = {page_bytes}; PRAGMA journal_mode = WAL;"
            f"PRAGMA synchronous = FULL; PRAGMA secure_delete = OFF;"
            f"PRAGMA wal_autocheckpoint = {log_bytes // page_bytes};"
            "CREATE TABLE counter (one INTEGER PRIMARY KEY, given INTEGER);"
            "CREATE TABLE waiting (seq INTEGER PRIMARY KEY, at INTEGER, payload BLOB, more BLOB);"
            "CREATE TABLE journal (seq INTEGER PRIMARY KEY, at INTEGER, hash BLOB, entry BLOB);"
            "CREATE TABLE acknowledged (first INTEGER PRIMARY KEY, last INTEGER);"
            "INSERT INTO counter VALUES (1, 0); INSERT INTO acknowledged VALUES (1, 0);"
        )
        times_s = []
        for seq in range(1, verdicts + 1):
            started_s = time.perf_counter()
            _commit(file, seq)
            times_s.append(time.perf_counter() - started_s)
        file.close()
    return {
        "page_bytes": page_bytes,
        "log_mib": log_bytes // MIB,
        "verdicts": verdicts,
        "kib_per_verdict": round(bytes_of() / verdicts / 1024, 2),
        "commit_p50_ms": round(median(times_s) * 1e3, 2),
    }


def _commit(file: sqlite3.Connection, seq: int) -> None:
    payload = encode(Stamp(seq=seq, job_id=f"5d1f0c9a{seq:010x}"))
    file.execute("BEGIN IMMEDIATE")
    file.execute("DELETE FROM waiting WHERE seq = ?", (seq - 1,))
    file.execute("UPDATE acknowledged SET last = ?", (seq - 1,))
    file.execute("INSERT INTO waiting VALUES (?, ?, ?, x'')", (seq, seq, payload))
    row = (seq, seq, hashlib.sha256(payload).digest(), ENTRY)
    file.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", row)
    file.execute("UPDATE counter SET given = ?", (seq,))
    file.execute("COMMIT")


@contextmanager
def counted() -> Iterator[Any]:
    """Yields a function: what this process had the disk write within, bytes."""
    before = _written_bytes()
    total = [0]
    yield lambda: total[0]
    os.sync()
    total[0] = _written_bytes() - before


def _written_bytes() -> int:
    for line in Path("/proc/self/io").read_text("ascii").splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    raise SystemExit("/proc/self/io: no write_bytes; this kernel does not count them")


def show(found: dict[str, Any]) -> None:
    """Two tables."""
    print(f"entry {found['entry_bytes']} bytes, payload {found['payload_bytes']} bytes\n")
    for name in ("outbox", "sqlite"):
        rows = found[name]
        print(name + "".join(f"{key:>16}" for key in rows[0]))
        for row in rows:
            print(" " * len(name) + "".join(f"{value!s:>16}" for value in row.values()))
        print()


def record(found: dict[str, Any]) -> None:
    """Keep it beside the other results."""
    what = "bytes that the outbox has the disk write for each verdict"
    command = f"python benchmarks/faults/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"
    keep(RESULTS / "flash_wear.json", {**circumstances(what), "command": command, "found": found})


if __name__ == "__main__":
    main()
