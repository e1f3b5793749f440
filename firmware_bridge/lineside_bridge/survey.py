"""All that a sensor says of itself, as one document for people, scripts and inventories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from lineside.durable import write_durably
from lineside.errors import StorageError
from lineside.plainfile import is_folder
from lineside_bridge.session import Session


def survey(session: Session) -> dict[str, Any]:
    """Who it is, its slots, versions and counters, and what its line can do; bytes as hex."""
    device, peer = session.read_device(), session.peer
    offer = peer.offer
    found: dict[str, Any] = {
        "port": session.name,
        "device": None if device is None else _plain(device),
        "slots": [_plain(report) for report in session.read_slots()],
        "images": [_plain(state) for state in session.read_states().images],
        "line": {
            "framing": peer.framing.value,
            "baud": session.client.link.baud,
            "buffer_bytes": peer.buffer_bytes,
            "window": peer.window,
            "framings_offered": [] if offer is None else list(offer.framings),
            "bauds_offered": [] if offer is None else list(offer.bauds),
        },
    }
    if device is None:
        found["platform"] = session.read_platform()
        found["bootloader"] = session.read_bootloader()
    return found


def check_inventory(path: Path | None) -> None:
    """Before a sensor is touched: whether its inventory can be written at all.

    Raises:
        StorageError: its folder is not there, or something that is no file has its name.
    """
    if path is None:
        return
    if not is_folder(path.parent):
        raise StorageError(f"{path}: cannot be written: there is no folder {path.parent}: make it")
    if path.exists() and not path.is_file():
        # Written aside and renamed it would take the place of, say, /dev/stdout.
        raise StorageError(f"{path}: is no regular file: name another for the inventory")


def write_inventory(path: Path, sensors: list[dict[str, Any]]) -> None:
    """One file for all sensors of a call; an older one is replaced whole.

    Raises:
        StorageError: it cannot be written.
    """
    document = {"format": 1, "sensors": sensors}
    text = msgspec.json.format(msgspec.json.encode(document), indent=2)
    # Where a link points to: the link itself stays one.
    write_durably(path.resolve(), [text, b"\n"])


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,))
    return {key: _tell(value) for key, value in fields.items()}


def _tell(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_tell(each) for each in value]
    return value
