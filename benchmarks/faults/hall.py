"""A hall of stations for faults of a rollout: all of it in processes of their own, a real broker.

What lies in each store at the end is read from the disk.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import station_yard
from mosquitto_broker import Mosquitto
from slot_bundles import SlotBundles
from station_yard import READY, Script, YardOrder, station_folder
from tiny_bundle import TinyBundle

from lineside.bundle import open_bundle, write_key_pair
from lineside.fleet import RolloutState
from lineside.remote.reception import SILENT_S
from lineside.slots import SlotState, open_store

ROLLOUT: Final = (sys.executable, "-c", "from lineside.cli.rollout import rollout; rollout()")
# A busy machine is no fault; what waits for ever is.
PATIENCE_S: Final = 300.0
# Several stretches, so that a transfer can be cut in its midst.
PADDING_BYTES: Final = 400_000


class Yard:
    """One process with some stations; started again when it has died."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Does not wait until it is ready."""
        self.starts += 1
        with self._file.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, station_yard.__file__, str(self._file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path()},
            )

    def wait_ready(self) -> None:
        """Until it says so."""
        assert self._process is not None and self._process.stdout is not None
        said = self._process.stdout.readline().decode().strip()
        assert said == READY, self._file.with_suffix(".log").read_text("utf-8")

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


class Hall:
    """Broker and stations run from the start.

    Args:
        folder: an empty one, for everything.
        scripts: of all stations that will be there.
        absent: names of stations that stand in the list and never come.
        per_yard: so many stations share a process; those that die have one each.
        silent_s: a station waits so long for a sender that was killed.
        security_counter: of the new bundle; the old one has 0.
    """

    def __init__(
        self,
        folder: Path,
        bundle: TinyBundle,
        scripts: Sequence[Script],
        *,
        absent: Sequence[str] = (),
        per_yard: int = 10,
        silent_s: float = SILENT_S,
        security_counter: int = 0,
    ) -> None:
        self.security_counter = security_counter
        self._silent_s = silent_s
        self.folder = folder
        self.scripts = tuple(scripts)
        self.absent = tuple(absent)
        self.rollout_starts = 0
        self.broker_kills = 0
        self._rollout: subprocess.Popen[bytes] | None = None
        self.broker = Mosquitto(folder, "max_inflight_messages 0", log_type="error")
        self.broker.start()
        self._key, self._public_key = write_key_pair(folder, "operator")
        bundles = SlotBundles(tiny=bundle, folder=folder)
        self._trust = bundles.trust
        self.old = bundle.path
        self.new = bundles.seal(
            "2.0.0", padding_bytes=PADDING_BYTES, security_counter=security_counter
        )
        self.hashes = {self._hash(path): word for path, word in self._words()}
        self.stations_file = folder / "stations.toml"
        self._write_stations()
        self.yards = [
            self._yard(index, group) for index, group in enumerate(_groups(scripts, per_yard))
        ]
        for yard in self.yards:
            yard.start()
        for yard in self.yards:
            yard.wait_ready()

    @property
    def state_file(self) -> Path:
        """Where the rollout notes how far it is."""
        return self.new.with_suffix(".rollout.json")

    @property
    def state(self) -> RolloutState | None:
        """How far it is, as its file says."""
        try:
            document: dict[str, Any] = msgspec.json.decode(self.state_file.read_bytes())
        except FileNotFoundError:
            return None
        return msgspec.convert(document["state"], RolloutState)

    @property
    def is_going_on(self) -> bool:
        """Whether the rollout's process runs."""
        return self._rollout is not None and self._rollout.poll() is None

    def start_rollout(self, *options: str) -> None:
        """Or go on with it; does not wait."""
        self.rollout_starts += 1
        words = (str(self.new), "--stations", str(self.stations_file), "--key", str(self._key))
        with self._said.open("ab") as said, (self.folder / "rollout.err").open("ab") as err:
            self._rollout = subprocess.Popen(
                [*ROLLOUT, *words, "--trust", str(self._trust), "--json", *options],
                stdout=said,
                stderr=err,
            )

    def kill_rollout(self) -> None:
        """``kill -9``, in whatever it is doing."""
        assert self._rollout is not None, "no rollout was started"
        self._rollout.kill()
        self._rollout.wait()

    def end_rollout(self) -> int:
        """Wait for its end; its exit code."""
        assert self._rollout is not None, "no rollout was started"
        self.wait_for(lambda: not self.is_going_on, "its end")
        return int(self._rollout.returncode)

    def result(self) -> dict[str, Any]:
        """The document at its end."""
        last = self._said.read_bytes().splitlines()[-1]
        found: dict[str, Any] = msgspec.json.decode(last)
        assert found["kind"] == "result", found
        return found

    def restart_broker(self, away_s: float) -> None:
        """``kill -9``; after a while a new one that knows nothing."""
        self.broker_kills += 1
        self.broker.kill()
        time.sleep(away_s)
        self.broker.start()

    def wait_for(self, true: Callable[[], bool], what: str) -> None:
        """Until it is so; stations that have died are started again meanwhile."""
        until_s = time.monotonic() + PATIENCE_S
        while not true():
            in_vain = not self.is_going_on or time.monotonic() > until_s
            assert not in_vain or true(), f"waited in vain for {what}: {self.words()}"
            self.revive()
            time.sleep(0.05)

    def revive(self) -> None:
        """Start what has died."""
        for yard in self.yards:
            if not yard.is_alive:
                yard.kill()
                yard.start()

    def stores(self) -> dict[str, str]:
        """What judges at each station, read from its store: ``old`` or ``new``, and its state."""
        found = {}
        for script in self.scripts:
            record = open_store(
                station_folder(self.folder / "stores", script.name) / "store"
            ).record
            active = record.active
            card = None if active is None else record.slots[active].card
            if active is None or card is None:
                found[script.name] = "nothing"
                continue
            state = record.slots[active].state
            word = self.hashes.get(card.hash, "strange")
            found[script.name] = word if state is SlotState.CONFIRMED else f"{word} {state.value}"
        return found

    def words(self) -> str:
        """What the rollout and the stations complained of."""
        files = [self.folder / "rollout.err", *self.folder.glob("yard-*.log")]
        return "\n".join(file.read_text("utf-8")[-2000:] for file in files if file.exists())

    def close(self) -> None:
        """End all of it."""
        if self.is_going_on:
            self.kill_rollout()
        for yard in self.yards:
            yard.kill()
        self.broker.kill()

    @property
    def _said(self) -> Path:
        return self.folder / f"rollout-{self.rollout_starts}.jsonl"

    def _words(self) -> Iterator[tuple[Path, str]]:
        yield self.old, "old"
        yield self.new, "new"

    def _hash(self, path: Path) -> str:
        with open_bundle(path, trust=self._trust) as bundle:
            return bundle.hash

    def _write_stations(self) -> None:
        names = [*(script.name for script in self.scripts), *self.absent]
        listed = "".join(f'    "{name}",\n' for name in names)
        self.stations_file.write_text(
            f'stations = [\n{listed}]\n[mqtt]\nurl = "{self.broker.url}"\n'
            "reconnect_min_s = 0.05\nreconnect_max_s = 0.5\nkeepalive_s = 4\n",
            encoding="utf-8",
        )

    def _yard(self, index: int, scripts: Sequence[Script]) -> Yard:
        order = YardOrder(
            url=self.broker.url,
            folder=str(self.folder / "stores"),
            command_key=str(self._public_key),
            trust=str(self._trust),
            old=str(self.old),
            new=str(self.new),
            scripts=tuple(scripts),
            silent_s=self._silent_s,
        )
        file = self.folder / f"yard-{index}.json"
        file.write_bytes(msgspec.json.encode(order))
        return Yard(file)


@contextlib.contextmanager
def open_hall(
    folder: Path, bundle: TinyBundle, scripts: Sequence[Script], **options: Any
) -> Iterator[Hall]:
    """A hall that is closed at the end, however that comes; options as `Hall` has them."""
    hall = Hall(folder, bundle, scripts, **options)
    try:
        yield hall
    finally:
        hall.close()


def python_path() -> str:
    """Whatever this process finds, its children find too."""
    return os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)


def _groups(scripts: Sequence[Script], per_yard: int) -> list[Sequence[Script]]:
    alone = [[script] for script in scripts if script.ending == "dies"]
    others = [script for script in scripts if script.ending != "dies"]
    shared = [others[at : at + per_yard] for at in range(0, len(others), per_yard)]
    return [*shared, *alone]
