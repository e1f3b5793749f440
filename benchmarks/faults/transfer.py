"""Bundles sent over MQTT while whatever is part of it is killed; and how fast, in how much memory.

    python benchmarks/faults/transfer.py --out benchmarks/results/faults_transfer.json
    python benchmarks/faults/transfer.py --quick

Broker, station and sender are processes of their own, ended with ``kill -9`` at moments that chance
has chosen and started again at once or a second later. The station is Lineside's publisher, gate,
receiving and store; instead of the golden self-test, which has its own proofs, only the hash is
checked. After each transfer the store must hold the file, byte for byte.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.extend(str(Path(__file__).parents[2] / room) for room in ("benchmarks", "tests/plugins"))

import paho.mqtt.client as paho
from mosquitto_broker import Mosquitto
from paho.mqtt.enums import CallbackAPIVersion
from remote_station import TOPICS, RemoteStation
from script import record, say

from lineside.bundle import load_private_key, load_public_key, write_key_pair
from lineside.mqtt import MqttSettings, decode_verdict
from lineside.remote.caller import Caller
from lineside.remote.conversation import Patience
from lineside.slots import SlotState, open_store
from lineside.station import SWITCH_S

KINDS: Final = ("broker", "station", "sender")
_FILE_BYTES: Final = 8_000_000
_LARGE_BYTES: Final = 64_000_000
_FAULTS_EACH: Final = 4
_VERDICT_EVERY_S: Final = 0.01
_IDLE_VERDICTS: Final = 500
_SILENT_S: Final = 1.0
_GIVEN_UP_S: Final = 120.0


@dataclass
class Found:
    """What the faults left.

    Attributes:
        kills: by kind.
        wrong: transfers after which the store had not the file.
        failed: senders that gave up.
        sent_again_bytes: offsets that a sender was set back by.
    """

    transfers: int = 0
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    wrong: int = 0
    failed: int = 0
    sent_again_bytes: int = 0


class Hall:
    """A broker, a station and a sender, each of which may be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder, log_type="error")
        self.key, self.public = write_key_pair(folder, "operator")
        self.station: subprocess.Popen[bytes] | None = None
        self.sender: subprocess.Popen[bytes] | None = None

    def start_station(self) -> None:
        self.station = self._start("station", str(self.public))

    def start_sender(self, file: Path, chunk_kib: int = 32) -> None:
        self.sender = self._start("sender", str(self.key), str(file), str(chunk_kib))

    def _start(self, role: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, role, self.broker.url, str(self.folder), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def kill(self, kind: str, file: Path, away_s: float) -> None:
        """``kill -9``, and up again; a sender's place is taken by another."""
        if kind == "broker":
            self.broker.kill()
            time.sleep(away_s)
            self.broker.start()
        elif kind == "station":
            end(self.station)
            time.sleep(away_s)
            self.start_station()
        else:
            end(self.sender)
            self.start_sender(file)

    def offsets(self) -> Iterator[int]:
        """What the sender says, until it ends."""
        assert self.sender is not None
        assert self.sender.stdout is not None
        for line in self.sender.stdout:
            yield int(line)
        self.sender.wait()


def end(process: subprocess.Popen[bytes] | None) -> None:
    """As a power cut does."""
    if process is not None:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@contextmanager
def open_hall(folder: Path) -> Iterator[Hall]:
    """Broker and station run."""
    folder.mkdir()
    hall = Hall(folder)
    hall.broker.start()
    hall.start_station()
    try:
        yield hall
    finally:
        end(hall.sender)
        end(hall.station)
        hall.broker.kill()


def suffer(hall: Hall, chance: random.Random, found: Found, kinds: tuple[str, ...]) -> None:
    """One transfer, killed into at moments of chance."""
    file = hall.folder / "new.lsb"
    file.write_bytes(chance.randbytes(_FILE_BYTES))
    moments = sorted((chance.uniform(0.02, 0.98), kind) for kind in kinds)
    hall.start_sender(file)
    last = 0
    while True:
        for offset in hall.offsets():
            found.sent_again_bytes += max(0, last - offset)
            last = offset
            if moments and offset >= moments[0][0] * _FILE_BYTES:
                _, kind = moments.pop(0)
                found.kills[kind] += 1
                hall.kill(kind, file, chance.uniform(0, 1))
                if kind == "sender":
                    break
        else:
            break
    found.transfers += 1
    assert hall.sender is not None
    found.failed += hall.sender.returncode != 0
    found.wrong += installed(hall.folder) != file.read_bytes()


def installed(folder: Path) -> bytes:
    """What lies in the confirmed slot."""
    store = open_store(folder / "store")
    slot = store.record.find(SlotState.CONFIRMED)
    if slot is None:
        return b""
    card = store.record.slots[slot].card
    assert card is not None
    return store.read(slot, 0, card.size_bytes)


def measure_speed(folder: Path, chunk_kib: int) -> dict[str, object]:
    """A large file without faults, while verdicts are given: rate, memory, and their delay."""
    with open_hall(folder) as hall, listening(hall.broker.port) as delays_ms:
        file = folder / "large.lsb"
        file.write_bytes(os.urandom(1_000_000) * (_LARGE_BYTES // 1_000_000))
        delays_ms.clear()
        while len(delays_ms) < _IDLE_VERDICTS:
            time.sleep(0.1)
        idle = sorted(delays_ms)
        began_s, peaks = 0.0, (0, 0)
        hall.start_sender(file, chunk_kib)
        for offset in hall.offsets():
            if not began_s:
                began_s = time.monotonic()
                delays_ms.clear()
            if offset == _LARGE_BYTES:
                break
            peaks = (peak_bytes(hall.station), peak_bytes(hall.sender))
        took_s = time.monotonic() - began_s
        busy = sorted(delays_ms)
        for _ in hall.offsets():
            pass
        assert installed(folder) == file.read_bytes()
    return {
        "chunk_kib": chunk_kib,
        "mb_per_s": round(_LARGE_BYTES / 1e6 / took_s, 1),
        "station_peak_mb": round(peaks[0] / 1e6, 1),
        "sender_peak_mb": round(peaks[1] / 1e6, 1),
        "verdict_ms_idle": spread(idle),
        "verdict_ms_meanwhile": spread(busy),
    }


def spread(delays_ms: list[float]) -> dict[str, float]:
    """Of sorted ones."""
    count = len(delays_ms)
    return {
        "count": count,
        "p50": round(delays_ms[count // 2], 2),
        "p99": round(delays_ms[count * 99 // 100], 2),
        "max": round(delays_ms[-1], 2),
    }


@contextmanager
def listening(port: int) -> Iterator[list[float]]:
    """How long after it was given each verdict came, ms."""
    delays_ms: list[float] = []

    def hear(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        verdict = decode_verdict(bytes(message.payload), source="verdict")
        delays_ms.append(time.time_ns() / 1e6 - verdict.t)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = hear
    client.connect("127.0.0.1", port)
    client.subscribe(TOPICS.verdict)
    client.loop_start()
    try:
        yield delays_ms
    finally:
        client.disconnect()
        client.loop_stop()


def peak_bytes(process: subprocess.Popen[bytes] | None) -> int:
    """The most memory that it has had; 0 once it has ended."""
    assert process is not None
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def run_station(url: str, folder: str, public: str) -> None:
    """Until it is killed; a verdict every 10 ms."""
    sys.setswitchinterval(SWITCH_S)  # as `lineside run`
    station = RemoteStation(
        url=url, folder=Path(folder), keys=(load_public_key(public),), silent_s=_SILENT_S
    )
    station.start()
    while True:
        station.spool.give(1, taken=time.time_ns() // 1_000_000)
        station.publisher.wake()
        time.sleep(_VERDICT_EVERY_S)


def run_sender(url: str, _folder: str, key: str, file: str, chunk_kib: str) -> None:
    """Once; says each offset."""
    patience = Patience(answer_s=_GIVEN_UP_S, again_s=0.5, again_max_s=1.0)
    settings = MqttSettings(url=url, reconnect_min_s=0.05, reconnect_max_s=0.2)
    signer = load_private_key(key)
    told = threading.Lock()

    def show(offset: int, _size_bytes: int) -> None:
        with told:
            print(offset, flush=True)

    with Caller(settings, signer, chunk_bytes=int(chunk_kib) * 1024, patience=patience) as caller:
        caller.install(TOPICS, file, show)


def measure(times: int, seed: int) -> Mapping[str, object]:
    """All of it."""
    chance, found = random.Random(seed), Found()
    with tempfile.TemporaryDirectory(prefix="lineside-transfer-") as name:
        for number in range(times):
            kinds = tuple(chance.choice(KINDS) for _ in range(_FAULTS_EACH))
            with open_hall(Path(name) / str(number)) as hall:
                suffer(hall, chance, found, kinds)
            say(f"{number + 1} of {times}: killed {', '.join(kinds)}; {found.wrong} wrong so far")
        speeds = [measure_speed(Path(name) / f"speed{kib}", kib) for kib in (32, 256)]
    sent = found.transfers * _FILE_BYTES
    return {
        "times": times,
        "seed": seed,
        "file_bytes": _FILE_BYTES,
        "transfers": found.transfers,
        "kills": found.kills,
        "wrong": found.wrong,
        "failed": found.failed,
        "sent_again_share": round(found.sent_again_bytes / sent, 4),
        "speeds": speeds,
    }


def main() -> int:
    """Run it, or be one of its processes."""
    roles: dict[str, Callable[..., None]] = {"station": run_station, "sender": run_sender}
    if len(sys.argv) > 1 and sys.argv[1] in roles:
        roles[sys.argv[1]](*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 transfers, not 40")
    parser.add_argument("--times", type=int, help="how many transfers")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write what was found, as JSON")
    options = parser.parse_args()
    load_before = os.getloadavg()
    found = measure(options.times or (3 if options.quick else 40), options.seed)
    for name, value in found.items():
        say(f"{name}: {value}")
    if options.out is not None:
        what = "bundles of 8 MB sent to a station, each killed into four times with kill -9"
        record(options.out, what, found, load_before)
    return int(bool(found["wrong"] or found["failed"]))


if __name__ == "__main__":
    sys.exit(main())
