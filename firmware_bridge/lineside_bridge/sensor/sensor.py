"""What every sensor is to its server, whatever its bundle runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lineside import __version__
from lineside.errors import BundleError, LinesideError
from lineside.slots import SlotName, Store
from lineside_bridge.custom import Health, SelfTestReport
from lineside_bridge.sensor.contents import Contents
from lineside_bridge.sensor.logbook import Logbook
from lineside_bridge.sensor.uploads import Uploads


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a sensor says of itself.

    Attributes:
        serial: the maker's serial number.
        hardware: words of which one must be a bundle's target, where that is not ``any``; with
            spaces between them.
        engine: ``onnxruntime`` or ``openvino``; empty: whichever a bundle brings.
        runtime: of `lineside`.
    """

    serial: str
    hardware: str
    engine: str
    runtime: str = __version__

    @property
    def targets(self) -> tuple[str, ...]:
        """The words of ``hardware``."""
        return tuple(self.hardware.split())


class Sensor(Protocol):
    """A store, what comes into it, and what becomes of it."""

    facts: Facts
    store: Store
    uploads: Uploads
    log: Logbook

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Ids of the keys whose seal counts, 16 bytes each."""

    def read_slot(self, slot: SlotName) -> Contents | None:
        """What lies there, checked; ``None``: nothing.

        Raises:
            LinesideError: it is not sound.
        """

    def accept(self) -> None:
        """What was uploaded, whole and sound, is tried next; where nothing is in use, at once.

        Raises:
            LinesideError: it may not be any more.
        """

    def confirm(self) -> None:
        """Keep what is on trial; nothing happens where the confirmed one runs.

        Raises:
            LinesideError: nothing may be confirmed now.
        """

    def revert(self, reason: str) -> SlotName | None:
        """Back to the bundle before; returns the slot that is in use then.

        Raises:
            LinesideError: there is nothing to go back to.
        """

    def reset(self) -> None:
        """Start again; called when the answer has left."""

    def start_selftest(self, slot: SlotName) -> None:
        """Prove the bundle in a slot by its golden samples, beside everything else.

        Raises:
            LinesideError: none lies there.
        """

    @property
    def selftest(self) -> SelfTestReport:
        """How the last one went."""

    @property
    def health(self) -> Health:
        """Of this moment."""


def tell_slot(sensor: Sensor, slot: SlotName) -> Contents | None:
    """What lies in a slot; unsound is as good as nothing, and stands in the log."""
    try:
        return sensor.read_slot(slot)
    except BundleError as error:
        sensor.log.write(str(error))
    except LinesideError as error:
        sensor.log.write(f"slot {slot.value}: {error}")
    return None
