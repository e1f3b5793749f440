"""A small production line for faults: parts, a station in a process of its own, broker, receiver.

Everything is looked at from outside: pictures go in, messages and the outbox come out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from account import Account, Delivery, take_account
from feeder import Feeder, FolderFeeder, part_of
from mosquitto_broker import Mosquitto
from tcp_relay import TcpRelay
from tiny_bundle import TinyBundle
from witness import Witness

from lineside.outbox import Outbox, OutboxSettings
from lineside_bench.verb import verb_command

AUDIT: Final = (sys.executable, "-c", "from lineside.cli.audit import audit; audit()")
# A busy machine is no fault; a station that waits for ever is.
PATIENCE_S: Final = 120.0

_STATION_TOML: Final = """\
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
{place}
trust = ["{trust}"]
engine = "onnxruntime"
threads = 1
{trial}
{source}
[outbox]
path = "{outbox}"
{room}
[mqtt]
url = "{url}"
keepalive_s = 4
ack_timeout_s = 2.0
reconnect_min_s = 0.05
reconnect_max_s = 0.5
state_interval_s = 1
{mqtt}
"""
STATION: Final = "lineside/v1/plant1/line3/aoi1"
_FOLDER_SOURCE: Final = """\
[source]
kind = "folder"
path = "frames"
watch = true
settle_ms = 0
poll_ms = 10
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one fault left behind, for the record.

    Attributes:
        faults: what is not as promised, in words; empty is the goal.
        answers: what stations answered, where a fault leaves them the choice.
    """

    given: int
    received: int
    repeated: int
    on_verdict: int
    on_history: int
    station_starts: int
    connections: int
    duration_s: float
    faults: list[str]
    answers: dict[str, int] = {}


def outcome_of(account: Account, *, starts: int, connections: int, duration_s: float) -> Outcome:
    """An account in numbers."""
    return Outcome(
        given=account.given,
        received=account.distinct,
        repeated=account.repeated,
        on_verdict=account.deliveries.get("verdict", 0),
        on_history=account.deliveries.get("history", 0),
        station_starts=starts,
        connections=connections,
        duration_s=round(duration_s, 1),
        faults=account.faults,
    )


class Line:
    """Broker and receiver run from the start; station and parts when they are started.

    Args:
        folder: an empty one, for everything.
        qos: of the receiver, see `Witness`.
        source: section ``[source]``, and what belongs to it; else pictures in a folder.
        mqtt: further lines of section ``[mqtt]``.
        environment: of the station, beside this process's own.
        outbox: where it lies, else in ``folder``.
        room: further lines of section ``[outbox]``.
        place: the line of section ``[bundle]`` that says where it lies; else the bundle's file.
        trial: section ``[bundle.trial]``.
    """

    def __init__(
        self,
        folder: Path,
        bundle: TinyBundle,
        *,
        qos: int = 1,
        rate_hz: float = 50.0,
        source: str = _FOLDER_SOURCE,
        mqtt: str = "",
        environment: Mapping[str, str] | None = None,
        outbox: Path | None = None,
        room: str = "",
        place: str = "",
        trial: str = "",
    ) -> None:
        self.folder = folder
        self.outbox_path = outbox or folder / "outbox.sqlite"
        self.log = folder / "station.log"
        self.starts = 0
        self.broker = Mosquitto(folder, "max_inflight_messages 0")
        self.broker.start()
        self.relay = TcpRelay(self.broker.port)
        self.witness = Witness(self.broker.port, qos=qos)
        self.feeder: Feeder = FolderFeeder(folder / "frames", rate_hz=rate_hz)
        self.witness.on_verdict = self.feeder.heard
        self.witness.connect()
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._since_s = time.monotonic()
        self._configuration = folder / "station.toml"
        self._configuration.write_text(
            _STATION_TOML.format(
                place=place or f'path = "{bundle.path}"',
                trust=bundle.public_key_path,
                outbox=self.outbox_path,
                url=self.relay.url,
                room=room,
                source=source,
                mqtt=mqtt,
                trial=trial,
            ),
            encoding="utf-8",
        )

    def feed_by(self, feeder: Feeder) -> None:
        """Let this one present the parts; before the station starts."""
        self.feeder = feeder
        self.witness.on_verdict = feeder.heard

    @property
    def state(self) -> dict[str, object]:
        """The station's last message of its state; empty before the first."""
        states = self.witness.states
        return dict(msgspec.json.decode(states[-1])) if states else {}

    @property
    def queue(self) -> object:
        """Verdicts that wait for the broker, as the station says; ``None`` while it is away."""
        return self.state.get("queue") if self.state.get("st") else None

    @property
    def given(self) -> int:
        """Verdicts durable so far, read from the file by SQLite itself, while the station runs."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.outbox_path}?mode=ro", uri=True)
        ) as database:
            return int(database.execute("SELECT given FROM counter").fetchone()[0])

    @property
    def heard_all(self) -> bool:
        """Whether so many different verdicts were received as the outbox gave."""
        return len({found.payload for found in self.witness.deliveries}) >= self.given

    def start_station(self) -> subprocess.Popen[bytes]:
        """Start it; does not wait. What the one before said of itself counts no more."""
        self.witness.states.clear()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                verb_command("run", self._configuration),
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "OMP_NUM_THREADS": "1",
                    "LINESIDE_CACHE": str(self.folder / "cache"),
                    **self._environment,
                },
            )
        self.starts += 1
        return self._process

    def kill_station(self) -> None:
        """``kill -9``, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop_station(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None, "no station was started"
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        self._process = None
        return code

    def restart_broker(self, away_s: float) -> None:
        """Kill it and start it again. The receiver comes back before the station is let in: what a
        broker without a disk hands to nobody, nobody can count."""
        self.broker.kill()
        self.relay.shut()
        self.witness.disconnect()
        time.sleep(away_s)
        self.broker.start()
        self.witness.connect()
        self.relay.open()

    def wait_for(self, condition: Callable[[], bool], what: str, *, may_end: bool = False) -> None:
        """Look often; give up with what the station said last, also where it ended by itself."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            ended = self._process is not None and self._process.poll() is not None
            if ended and not may_end:
                raise AssertionError(f"the station ended with {self._code()}: {self.last_words()}")
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{what} does not come true: {self.last_words()}")
            time.sleep(0.01)

    def wait_for_verdicts(self, more: int) -> None:
        """Until so many more messages were received than now."""
        enough = len(self.witness.deliveries) + more
        self.wait_for(lambda: len(self.witness.deliveries) >= enough, f"{more} more verdicts")

    def wait_for_live_verdicts(self, more: int) -> None:
        """Until so many parts that were presented only after this call were heard of live."""
        known = set(self.feeder.parts)
        start = len(self.witness.deliveries)

        def enough() -> bool:
            came = self.witness.deliveries[start:]
            live = {part_of(found) for found in came if found.kind == "verdict"}
            return len(live - known) >= more

        self.wait_for(enough, f"{more} live verdicts of new parts")

    def _code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def last_words(self) -> str:
        """The end of the station's log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-1500:]

    def settle(self) -> Outcome:
        """No more parts; wait for the last verdict, stop the station, hold all against all."""
        self.feeder.stop()
        self.wait_for(lambda: self.feeder.unheard == 0, "a verdict for every part")
        self.wait_for(lambda: self.queue == 0, "an empty queue")
        code = self.stop_station()
        account = self.take_account()
        outcome = outcome_of(
            account,
            starts=self.starts,
            connections=self.relay.connections,
            duration_s=time.monotonic() - self._since_s,
        )
        outcome.faults.extend(self.audit())
        if code != 0:
            outcome.faults.append(f"the station ended with {code}: {self.last_words()}")
        return outcome

    def take_account(self) -> Account:
        """Of this moment; the station must not run."""
        outbox = Outbox(OutboxSettings(path=self.outbox_path))
        given = outbox.given
        outbox.close()
        return take_account(
            self.witness.deliveries,
            given=given,
            parts=self.feeder.parts,
            bad=self.feeder.bad,
        )

    def audit(self) -> list[str]:
        """What ``lineside audit`` finds in the outbox and in what the receiver heard; the last
        words of each of its lines are in the list where it does not agree."""
        heard = self.folder / "heard.jsonl"
        heard.write_bytes(b"".join(map(_line_of, self.witness.deliveries)))
        done = subprocess.run(
            [*AUDIT, str(self.outbox_path), "--received", str(heard)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [] if done.returncode == 0 else [f"the audit: {done.stdout}{done.stderr}"]

    def close(self) -> None:
        """End everything."""
        self.feeder.stop()
        self.kill_station()
        self.witness.disconnect()
        self.relay.close()
        self.broker.kill()


def _line_of(delivery: Delivery) -> bytes:
    """As ``lineside listen --json`` writes it."""
    _, _, site, line, station = STATION.split("/")
    where = {"kind": delivery.kind, "site": site, "line": line, "station": station}
    try:
        fields = msgspec.json.decode(delivery.payload, type=dict[str, object])
    except msgspec.DecodeError:
        return b""  # the account has it as what it is
    return msgspec.json.encode({**where, **fields}) + b"\n"


@contextlib.contextmanager
def open_line(folder: Path, bundle: TinyBundle, **settings: object) -> Iterator[Line]:
    """A `Line` with these settings, closed at the end whatever happens."""
    line = Line(folder, bundle, **settings)  # type: ignore[arg-type]
    try:
        yield line
    finally:
        line.close()
