"""What this user may do: the cache folder, serial ports, and whose keys are trusted."""

from __future__ import annotations

import grp
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lineside.doctor.check import Check, State
from lineside.engines.cache import private_folder
from lineside.errors import StorageError

_SERIAL_PATTERNS: Final = ("ttyACM*", "ttyUSB*", "ttyAMA*", "ttyTHS*")


def check_cache(folder: Path) -> Check:
    """The folder that remembers the choice of engine."""
    try:
        private_folder(folder)
    except StorageError as error:
        return Check(
            topic="cache",
            state=State.WARNING,
            found=str(error),
            remedy="set LINESIDE_CACHE to a folder of this user's own; else each start measures",
        )
    return Check(topic="cache", state=State.OK, found=f"{folder}: this user's own")


def check_serial_ports(devices: Path = Path("/dev")) -> Check:
    """Ports that triggers may come from, and sensors may be flashed through."""
    ports = sorted(port for pattern in _SERIAL_PATTERNS for port in devices.glob(pattern))
    if not ports:
        return Check(topic="serial", state=State.OK, found="no serial port here")
    closed = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if closed:
        return Check(
            topic="serial",
            state=State.WARNING,
            found=f"no access to {', '.join(map(str, closed))}",
            remedy=f"sudo usermod -aG {_group_of(closed[0])} $USER, then log in again",
        )
    return Check(topic="serial", state=State.OK, found=", ".join(map(str, ports)))


def check_trust(places: Iterable[Path]) -> Check:
    """Whose bundles this machine accepts without being told.

    Args:
        places: public keys, or folders of them.
    """
    places = list(places)
    keys = [key for place in places for key in key_files(place, ".pub")]
    if not keys:
        return Check(
            topic="trust",
            state=State.WARNING,
            found="no trusted key on this machine",
            remedy="put the factory's .pub into ~/.config/lineside/trust, or name it: --trust, or "
            "[bundle] trust of a station's file",
        )
    revoked = [file for place in places for file in key_files(place, ".revoked")]
    found = ", ".join(map(str, keys))
    if revoked:
        found += f"; revoked: {', '.join(file.stem for file in revoked)}"
    return Check(topic="trust", state=State.OK, found=found)


def key_files(place: Path, suffix: str) -> list[Path]:
    """The files of one kind that a place stands for; none where it is not there.

    Args:
        place: a file of that kind, or a folder of them.
        suffix: ``.pub`` or ``.revoked``.
    """
    try:
        place = place.expanduser()
        if place.is_file():
            return [place] if (place.suffix == ".revoked") == (suffix == ".revoked") else []
        return sorted(place.glob(f"*{suffix}"))
    except (OSError, RuntimeError):  # may not be entered; no home
        return []


def _group_of(port: Path) -> str:
    try:
        return grp.getgrgid(port.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"
