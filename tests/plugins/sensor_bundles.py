"""Thin copies of the tiny bundle, as a host sends them: old, new, later, one that fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guarded_flash import GuardedFlash
from sensor_cuts import ROADS, Trial
from sensor_rig import FACTS, RememberingJudge, Rig, Sealed
from slot_bundles import SlotBundles
from tiny_bundle import TinyBundle, shift_expected

from lineside.bundle import TrustedKeys, load_trust

_PAGE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Family:
    """Bundles of one maker.

    Attributes:
        old, new, later: security counters 0, 1, 2.
        beside: as new, with counter 0: may be left for the old one after it was confirmed.
        failing: its golden samples do not come out as sealed.
    """

    trusted: TrustedKeys
    old: Sealed
    new: Sealed
    later: Sealed
    beside: Sealed
    failing: Sealed

    def rig(self, *, delivered: bool = True, buffer_bytes: int = 2048, slot_bytes: int = 0) -> Rig:
        """A sensor that the old one was delivered with; with slots as large as needed."""
        largest = max(len(bundle.data) for bundle in (self.old, self.new, self.later))
        slot_bytes = slot_bytes or -(-largest // _PAGE_BYTES) * _PAGE_BYTES
        rig = Rig(
            flash=GuardedFlash(page_bytes=_PAGE_BYTES, slot_bytes=slot_bytes),
            trusted=self.trusted,
            judge=JUDGE,
            buffer_bytes=buffer_bytes,
        )
        if delivered:
            rig.put(self.old)
        return rig

    def trial(self, road: str, *, buffer_bytes: int = 2048) -> Trial:
        """One of `ROADS`, ready to be cut."""
        is_first = road == "first"
        new = {"revert_confirmed": self.beside, "fail": self.failing}.get(road, self.new)
        return Trial(
            self.rig(delivered=not is_first, buffer_bytes=buffer_bytes),
            ROADS[road],
            old=None if is_first else self.old,
            new=new,
            later=self.later,
        )


JUDGE = RememberingJudge()


def seal_family(tiny: TinyBundle, folder: Path, *, padding_bytes: int = 0) -> Family:
    """Seal them into a folder."""
    bundles = SlotBundles(tiny=tiny, folder=folder)
    trusted = load_trust(tiny.public_key_path)

    def seal(version: str, counter: int) -> Sealed:
        path = bundles.seal(version, padding_bytes=padding_bytes, security_counter=counter)
        return Sealed.read(bundles.thin(path, FACTS.engine), trusted)

    failing = tiny.reseal_golden(
        folder / "failing.lsb", lambda expectation: shift_expected(expectation, 0.25)
    )
    return Family(
        trusted=trusted,
        old=seal("1.0.0", 0),
        new=seal("2.0.0", 1),
        later=seal("3.0.0", 2),
        beside=seal("2.1.0", 0),
        failing=Sealed.read(bundles.thin(failing, FACTS.engine), trusted),
    )
