"""Whether a sensor may have a bundle: all that can be known before the first byte is sent."""

from __future__ import annotations

import re
from typing import Final

from lineside.cli.table import printable
from lineside.errors import (
    DowngradeError,
    IncompatibleBundleError,
    TargetError,
    UntrustedBundleError,
)
from lineside_bridge import custom
from lineside_bridge.custom import Code, Device
from lineside_bridge.errors import SensorFullError
from lineside_bridge.payload import Payload

# What the exporter seals unless told otherwise: nothing that a processor lacks.
_ANYWHERE: Final = ("any", "cpu")
_RELEASE: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")


def check_admission(payload: Payload, device: Device, *, port: str) -> None:
    """Hold a bundle against what a sensor says of itself.

    Raises:
        TargetError: made for other hardware.
        UntrustedBundleError: sealed by a key that does not count there.
        DowngradeError: its security counter is below what was confirmed there.
        IncompatibleBundleError: it needs a newer runtime.
        SensorFullError: larger than a slot.
    """
    check_hardware(payload, tuple(device.hardware.split()), port=port)
    _check_key(payload, device, port)
    _check_counter(payload, device, port)
    _check_runtime(payload, device, port)
    if len(payload.data) > device.capacity:
        raise SensorFullError(
            f"{port}: {payload.name}: {len(payload.data):,} bytes to send, and a slot of this "
            f"sensor holds {device.capacity:,}: send the copy for its engine alone (--engine), "
            "make room where that is a disk, or export a smaller model",
            group=custom.GROUP,
            code=Code.FULL,
        )


def check_hardware(payload: Payload, words: tuple[str, ...], *, port: str) -> None:
    """Whether the bundle was made for it.

    Args:
        words: what the sensor's hardware is called; none: nobody says.

    Raises:
        TargetError: it was not, or nobody can say.
    """
    target = payload.manifest.identity.target
    if target == "any" or target in words or (not words and target in _ANYWHERE):
        return
    here = printable(" ".join(words)) or "of unknown hardware"
    remedy = (
        "export it for that (lineside export --target)"
        if words
        else f"where you know that it is {target}, say so: --hardware {target}"
    )
    raise TargetError(
        f"{port}: {payload.name}: was made for {target}; this sensor is {here}: {remedy}",
        expected=target,
        actual=here,
    )


def _check_key(payload: Payload, device: Device, port: str) -> None:
    if not device.keys or payload.key_id in device.keys:
        return
    there = ", ".join(key.hex() for key in device.keys)
    raise UntrustedBundleError(
        f"{port}: {payload.name}: sealed by key {payload.key_id.hex()}, which this sensor does not "
        f"trust; it trusts {there}: seal the bundle by one of them (lineside bundle reseal)",
        key_id=payload.key_id.hex(),
    )


def _check_counter(payload: Payload, device: Device, port: str) -> None:
    counter = payload.manifest.identity.security_counter
    lowest = device.counters.get(payload.key_id.hex(), 0)
    if counter < lowest:
        raise DowngradeError(
            f"{port}: {payload.name}: its security counter is {counter}, and this sensor has "
            f"confirmed {lowest}: it would be a step back; export it with --security-counter "
            f"{lowest} or more if it is meant",
            expected=lowest,
            actual=counter,
        )


def _check_runtime(payload: Payload, device: Device, port: str) -> None:
    needed = payload.manifest.identity.minimum_runtime
    there, asked = _RELEASE.fullmatch(device.runtime), _RELEASE.fullmatch(needed)
    if there is None or asked is None:
        return
    if tuple(map(int, there.groups())) < tuple(map(int, asked.groups())):
        raise IncompatibleBundleError(
            f"{port}: {payload.name}: needs lineside {needed} or newer; this sensor has "
            f"{printable(device.runtime)}: update its runtime, or export for the older one",
            expected=needed,
            actual=device.runtime,
        )
