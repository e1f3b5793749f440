"""A sensor whose bundles lie in flash: it boots by itself, by `lineside.slots`' rules."""

from __future__ import annotations

import time
from typing import Final

from lineside.bundle import TrustedKeys
from lineside.errors import LinesideError, RefusedError
from lineside.slots import SimulatedFlash, SlotName, SlotState, Store
from lineside_bridge.custom import Health, SelfTestReport
from lineside_bridge.sensor.contents import Contents, check_contents, check_engine
from lineside_bridge.sensor.logbook import Logbook
from lineside_bridge.sensor.proving import Judge, Prover, judge_by_engine
from lineside_bridge.sensor.sensor import Facts, tell_slot
from lineside_bridge.sensor.uploads import Uploads

# Stock clients wait 1 to 2.5 s for an answer.
_CONFIRM_WAIT_S: Final = 0.7
_CLOSE_S: Final = 10.0


class FlashSensor:
    """Boots when it is made, and at each `reset`.

    As MCUboot does: what is pending comes on trial at a boot, and what was not confirmed until the
    next one is left. Beyond it: the bundle that runs is proved by its golden samples after each
    boot, and one on trial that fails is left at once.

    Attributes:
        running: what it judges with; ``None``: it has no sound bundle.

    Args:
        flash: its contents outlast this object.
        trusted: whose seal counts.
        facts: what it says of itself.
        log: of what it does.
        judge: the golden self-test, bundle and name to what is wrong.
        threaded: it runs beside the server, else a boot waits for it.
    """

    def __init__(
        self,
        flash: SimulatedFlash,
        *,
        trusted: TrustedKeys,
        facts: Facts,
        log: Logbook | None = None,
        judge: Judge | None = None,
        threaded: bool = True,
    ) -> None:
        self.facts = facts
        self.log = log or Logbook()
        self.running: Contents | None = None
        self._flash = flash
        self._trusted = trusted
        self._prover = Prover(judge or self._judge, threaded=threaded)
        self._boot()

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """See `Sensor`."""
        return tuple(key.key_id for key in self._trusted.valid)

    @property
    def selftest(self) -> SelfTestReport:
        """See `Sensor`."""
        return self._prover.report

    @property
    def health(self) -> Health:
        """See `Sensor`."""
        tested = self._prover.report
        words = self.store.damage
        if self.running is None:
            words = "no sound bundle: upload one, test it, reset"
        elif tested.state == "failed":
            words = f"golden self-test: {tested.words}"
        return Health(
            ok=not words,
            words=words,
            uptime_s=round(time.monotonic() - self._started_s, 1),
            wear=max(max(pages) for pages in self._flash.wear.values()),
        )

    def read_slot(self, slot: SlotName) -> Contents | None:
        """See `Sensor`."""
        card = self.store.record.slots[slot].card
        if card is None:
            return None
        data = self.store.read(slot, 0, card.size_bytes)
        contents = self._check(data, f"slot.{slot.value}")
        if contents.checked.hash != card.hash:
            raise LinesideError(f"slot {slot.value}: holds another bundle than its record says")
        return contents

    def accept(self) -> None:
        """See `Sensor`."""
        contents = self.uploads.accept()
        self.log.write(f"bundle {contents.checked.hash[:16]} waits for its trial")
        if self.store.record.find(SlotState.PENDING) is None:
            self._take_active()
            self._prove_running()

    def confirm(self) -> None:
        """See `Sensor`.

        Raises:
            RefusedError: its golden self-test still runs, or nothing is there to be confirmed.
        """
        if self._prover.wait(_CONFIRM_WAIT_S).state == "running":
            raise RefusedError("the golden self-test still runs: confirm when it has passed")
        record = self.store.record
        if record.find(SlotState.TRIAL) is None and record.find(SlotState.CONFIRMED) is not None:
            return
        slot = self.store.confirm()
        self.log.write(f"confirmed the bundle in slot {slot.value}")

    def revert(self, reason: str) -> SlotName | None:
        """See `Sensor`."""
        active = self.store.revert(reason)
        self.log.write(f"reverted ({reason})")
        self._take_active()
        return active

    def reset(self) -> None:
        """See `Sensor`."""
        self._prover.forget()
        self._boot()

    def close(self) -> None:
        """Power off, with nothing of it running any more."""
        self._prover.close(_CLOSE_S)

    def start_selftest(self, slot: SlotName) -> None:
        """See `Sensor`."""
        contents = self.read_slot(slot)
        if contents is None:
            raise RefusedError(f"slot {slot.value}: no bundle lies there")
        self._prover.start(contents, f"slot.{slot.value}", self._proved)

    def _boot(self) -> None:
        self._started_s = time.monotonic()
        self.store = Store(self._flash)
        self.log.write("started")
        self._settle_trial()
        self._take_active()
        self.uploads = Uploads(self.store, self._check_new)
        self._prove_running()

    def _prove_running(self) -> None:
        active = self.store.record.active
        if active is not None and self.running is not None:
            self._prover.start(self.running, f"slot.{active.value}", self._proved)

    def _settle_trial(self) -> None:
        """What was not confirmed goes back, what is pending comes on trial (MCUboot, test swap)."""
        record = self.store.record
        pending = record.find(SlotState.PENDING)
        if record.find(SlotState.TRIAL) is not None:
            self.store.revert("restarts")
            self.log.write("reverted: it was not confirmed")
        elif pending is not None and tell_slot(self, pending) is None:
            self.store.revert("damaged")
            self.log.write("reverted: what was pending is damaged")
        elif pending is not None:
            self.store.start_trial()
            self.log.write(f"slot {pending.value} is on trial")

    def _take_active(self) -> None:
        """What judges from now on; where it rotted, the one before."""
        active = self.store.record.active
        self.running = None if active is None else tell_slot(self, active)
        if active is None or self.running is not None:
            return
        before = self.store.record.slots[active.other].state
        if before is SlotState.PENDING or tell_slot(self, active.other) is None:
            return
        try:
            active = self.store.revert("damaged")
        except LinesideError as error:
            self.log.write(str(error))
            return
        self.running = None if active is None else tell_slot(self, active)

    def _proved(self, contents: Contents, words: str) -> None:
        record = self.store.record
        trial = record.find(SlotState.TRIAL)
        card = None if trial is None else record.slots[trial].card
        on_trial = card is not None and card.hash == contents.checked.hash
        name = contents.checked.hash[:16]
        result = f"failed: {words}" if words else "passed"
        self.log.write(f"bundle {name}: golden self-test {result}")
        if on_trial and words:
            self.revert("self_test")

    def _judge(self, contents: Contents, name: str) -> str:
        return judge_by_engine(contents, name, engine=self.facts.engine or "auto")

    def _check(self, data: bytes, name: str) -> Contents:
        return check_contents(data, trusted=self._trusted, targets=self.facts.targets, source=name)

    def _check_new(self, data: bytes, name: str) -> Contents:
        contents = self._check(data, name)
        if self.facts.engine:
            check_engine(contents, self.facts.engine, source=name)
        return contents
