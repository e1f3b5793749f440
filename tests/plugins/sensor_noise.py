"""Uploads over a line that lies: they finish or fail cleanly, and nothing wrong is accepted."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from sensor_rig import Host, Rig, Sealed

from lineside_bridge import custom
from lineside_bridge.custom import Command, Digest, SlotQuery
from lineside_bridge.errors import BridgeError, SensorRefusedError
from lineside_bridge.framing import Framing
from lineside_bridge.header import Operation
from lineside_bridge.sensor import NoiseSettings

# As often as a host sends a file whose hash did not come out before it gives up.
ROUNDS = 3


@dataclass(kw_only=True)
class Tally:
    """What came of many uploads.

    Attributes:
        ends: how they ended, in a word each.
        wrong: each thing accepted that was not sent, in words.
    """

    runs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def upload(rig: Rig, new: Sealed, framing: Framing, noise: NoiseSettings, tally: Tally) -> None:
    """One upload, and a trial where the host believes that it came whole."""
    tally.runs += 1
    name = f"{framing.value} {noise}"
    host = Host(rig.link(noise).client(framing, rig.buffer_bytes), rig.buffer_bytes)
    running = rig.sensor.running
    claimed = False
    try:
        claimed = _send(host, new)
        if claimed:
            host.test(new.hash)
        end = "finished" if claimed else "not matching"
    except SensorRefusedError:
        end = "refused"
    except BridgeError as error:
        end = type(error).__name__
    tally.ends[end] += 1
    _look(rig, new, tally, name, claimed=claimed)
    if rig.sensor.running is not running:
        tally.wrong.append(f"{name}: another bundle judges")


def _send(host: Host, new: Sealed) -> bool:
    """Until the sensor, asked anew, tells the hash of what it holds: 32 bytes that no noise makes
    of others, where a mere yes is one bit.
    """
    ask = custom.ask(Operation.READ, Command.DIGEST, SlotQuery(slot=1))
    for _ in range(ROUNDS):
        if host.upload(new.data).matches is False:
            continue
        digest = custom.decode(host.client.call(ask), Digest)
        if digest.sha256 == hashlib.sha256(new.data).digest():
            return True
    return False


def _look(rig: Rig, new: Sealed, tally: Tally, name: str, *, claimed: bool) -> None:
    """Whatever the sensor holds is what was sent, or does not count."""
    sensor = rig.sensor
    received = sensor.uploads.received
    held = [received.data] if received is not None else []
    for slot, found in sensor.store.record.slots.items():
        if found.card is not None and slot is not sensor.store.record.active:
            held.append(sensor.store.read(slot, 0, found.card.size_bytes))
    if any(data != new.data for data in held):
        tally.wrong.append(f"{name}: holds what was not sent")
    if claimed and not held:
        tally.wrong.append(f"{name}: the host believes that it is there, and it is not")
