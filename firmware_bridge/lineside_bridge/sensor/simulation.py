"""A simulated sensor with all that belongs to it: flash, losses of power, a file that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lineside.bundle import TrustedKeys
from lineside.slots import Area, Incoming, SimulatedFlash, Store
from lineside_bridge.framing import Framing
from lineside_bridge.sensor.contents import check_contents
from lineside_bridge.sensor.flash_file import save_flash
from lineside_bridge.sensor.flash_sensor import FlashSensor
from lineside_bridge.sensor.line import Line
from lineside_bridge.sensor.logbook import Logbook
from lineside_bridge.sensor.noise import NoiseSettings, PowerLoss
from lineside_bridge.sensor.sensor import Facts
from lineside_bridge.sensor.server import (
    BUFFER_BYTES,
    BUFFER_COUNT,
    FRAMINGS,
    Reply,
    Server,
    make_server,
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a simulated sensor is.

    Attributes:
        trusted: whose seal counts.
        facts: what it says of itself.
        framings: that it understands, best first.
        buffer_bytes, buffer_count: of its server.
        line: rate of its port.
        noise: how often it loses power.
        kept: file of the flash's contents; ``None``: they end with the process.
    """

    trusted: TrustedKeys
    facts: Facts
    framings: tuple[Framing, ...] = FRAMINGS
    buffer_bytes: int = BUFFER_BYTES
    buffer_count: int = BUFFER_COUNT
    line: Line = field(default_factory=Line)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    kept: Path | None = None


class Simulation:
    """Starts its sensor as often as it is told: power on.

    Args:
        flash: outlasts the sensor.
        setup: see there.
        log: outlasts it too, for whoever watches.
    """

    def __init__(self, flash: SimulatedFlash, setup: Setup, log: Logbook) -> None:
        self._flash = flash
        self._setup = setup
        self._log = log
        self._loss = PowerLoss(setup.noise)
        self._sensor: FlashSensor | None = None
        self._kept_operations = 0
        self._kept_wear: list[int] = []

    def start(self) -> KeptServer:
        """Boot; the next loss of power is planned already.

        Raises:
            PowerCut: it came while it booted: start again.
        """
        flash, setup = self._flash, self._setup
        self._stop_sensor()
        flash.restart()
        planned = self._loss.draw()
        if planned is not None:
            operations, torn_bytes = planned
            flash.cut_at(flash.operations + operations, torn_bytes)
        self._sensor = FlashSensor(flash, trusted=setup.trusted, facts=setup.facts, log=self._log)
        server = make_server(
            self._sensor,
            framings=setup.framings,
            buffer_bytes=setup.buffer_bytes,
            buffer_count=setup.buffer_count,
            line=setup.line,
        )
        return KeptServer(server, self.keep)

    def close(self) -> None:
        """Power off, and keep what the flash holds."""
        self._stop_sensor()
        self._flash.restart()
        self.keep(idle=True)

    def _stop_sensor(self) -> None:
        if self._sensor is not None:
            self._sensor.close()
            self._sensor = None

    def keep(self, *, idle: bool) -> None:
        """Write the flash's contents into their file, where there is one and something changed.

        Args:
            idle: there is time; else it is done only where a record changed.
        """
        if self._setup.kept is None:
            return
        record_wear = self._flash.wear[Area.RECORD_0] + self._flash.wear[Area.RECORD_1]
        changed = self._flash.operations != self._kept_operations
        if record_wear != self._kept_wear or (idle and changed):
            save_flash(self._setup.kept, self._flash)
            self._kept_operations = self._flash.operations
            self._kept_wear = record_wear


class KeptServer:
    """A server whose sensor's flash is kept before it answers what changed a record.

    Args:
        server: who answers.
        keep: told whether there is time.
    """

    def __init__(self, server: Server, keep: Callable[..., None]) -> None:
        self._server = server
        self._keep = keep

    def feed(self, data: bytes) -> list[Reply]:
        """See `Server`."""
        replies = self._server.feed(data)
        self._keep(idle=False)
        return replies

    def quiet(self) -> list[Reply]:
        """See `Server`."""
        replies = self._server.quiet()
        self._keep(idle=True)
        return replies


def put_bundle(flash: SimulatedFlash, data: bytes, *, setup: Setup, name: str) -> bool:
    """Into flash that holds none, as the maker does it: confirmed.

    Returns:
        Whether it was put there; not where something is confirmed already.

    Raises:
        BundleError: refused.
        StorageError: it does not fit.
    """
    store = Store(flash)
    if store.record.active is not None:
        return False
    contents = check_contents(data, trusted=setup.trusted, targets=setup.facts.targets, source=name)
    store.begin(Incoming(sha256=contents.sha256, size_bytes=len(contents.data)))
    store.write(0, contents.data)
    store.finish(contents.card)
    return True
