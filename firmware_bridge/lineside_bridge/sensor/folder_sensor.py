"""The sensor's side on a Linux camera: bundles go into the store that its station runs from."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence

from lineside.bundle import TrustedKeys
from lineside.errors import RefusedError
from lineside.slots import Record, SlotName, SlotState, Store
from lineside_bridge.custom import Health, SelfTestReport
from lineside_bridge.sensor.contents import Contents, check_contents, check_engine
from lineside_bridge.sensor.logbook import Logbook
from lineside_bridge.sensor.sensor import Facts
from lineside_bridge.sensor.uploads import Uploads


class FolderSensor:
    """The station beside it sees what is pending, proves it, tries it, and reverts by its rules.

    Args:
        store: of the station.
        trusted: whose seal counts.
        facts: what it says of itself.
        log: of what it does.
        restart: what to run at a reset, e.g. ``systemctl restart lineside``; nothing: a station
            that runs needs none.
    """

    def __init__(
        self,
        store: Store,
        *,
        trusted: TrustedKeys,
        facts: Facts,
        log: Logbook | None = None,
        restart: Sequence[str] = (),
    ) -> None:
        self.facts = facts
        self.store = store
        self.log = log or Logbook()
        self._trusted = trusted
        self._restart = tuple(restart)
        self._started_s = time.monotonic()
        self.uploads = Uploads(store, self._check)
        self.log.write("started")

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """See `Sensor`."""
        return tuple(key.key_id for key in self._trusted.valid)

    @property
    def selftest(self) -> SelfTestReport:
        """The station's: what it has on trial was proved before."""
        return _judge_trial(self.store.record)

    @property
    def health(self) -> Health:
        """See `Sensor`."""
        words = self.store.damage
        if not words and self.store.record.active is None:
            words = "no bundle: upload one"
        uptime_s = round(time.monotonic() - self._started_s, 1)
        return Health(ok=not words, words=words, uptime_s=uptime_s)

    def read_slot(self, slot: SlotName) -> Contents | None:
        """See `Sensor`."""
        card = self.store.record.slots[slot].card
        if card is None:
            return None
        return self._check(self.store.read(slot, 0, card.size_bytes), f"slot.{slot.value}")

    def accept(self) -> None:
        """See `Sensor`: the station does."""
        contents = self.uploads.accept()
        self.log.write(f"bundle {contents.checked.hash[:16]} waits for the station")

    def confirm(self) -> None:
        """See `Sensor`."""
        record = self.store.record
        tried = record.find(SlotState.TRIAL) or record.find(SlotState.PENDING)
        if tried is None and record.find(SlotState.CONFIRMED) is not None:
            return
        slot = self.store.confirm()
        self.log.write(f"confirmed the bundle in slot {slot.value}")

    def revert(self, reason: str) -> SlotName | None:
        """See `Sensor`."""
        active = self.store.revert(reason)
        self.log.write(f"reverted ({reason})")
        return active

    def reset(self) -> None:
        """See `Sensor`."""
        if not self._restart:
            self.log.write("reset: the station takes what is pending by itself")
            return
        self.log.write(f"reset: {' '.join(self._restart)}")
        threading.Thread(target=self._run_restart, name="reset", daemon=True).start()

    def _run_restart(self) -> None:
        try:
            done = subprocess.run(
                self._restart,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.log.write(f"reset: {error}")
            return
        if done.returncode:
            self.log.write(f"reset: ended with {done.returncode}: {done.stderr[-120:]!r}")

    def start_selftest(self, slot: SlotName) -> None:
        """Only the station's own engine would prove anything.

        Raises:
            RefusedError: always; it happens before a trial, without being asked for.
        """
        raise RefusedError(
            f"slot {slot.value}: the station proves a bundle by itself before it tries it"
        )

    def _check(self, data: bytes, name: str) -> Contents:
        contents = check_contents(
            data, trusted=self._trusted, targets=self.facts.targets, source=name
        )
        if self.facts.engine:
            check_engine(contents, self.facts.engine, source=name)
        return contents


def _judge_trial(record: Record) -> SelfTestReport:
    for state, word in ((SlotState.PENDING, "running"), (SlotState.TRIAL, "passed")):
        name = record.find(state)
        card = None if name is None else record.slots[name].card
        if card is not None:
            return SelfTestReport(state=word, hash=bytes.fromhex(card.hash))
    if record.reverted is not None:
        return SelfTestReport(
            state="failed",
            hash=bytes.fromhex(record.reverted.hash),
            words=f"reverted: {record.reverted.reason}",
        )
    return SelfTestReport(state="none")
