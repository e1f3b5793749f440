"""How files of a ring are called, so that name order is age and every file system takes them."""

from __future__ import annotations

import re

from lineside.mqtt.payload import wire_part_id


def name_time(unix_ns: int) -> str:
    """Milliseconds since 1970, 13 digits; a clock that is mad gives the nearer end."""
    return f"{min(max(unix_ns // 1_000_000, 0), 10**13 - 1):013d}"


def name_part(part_id: str) -> str:
    """The part as the wire has it, without signs that trouble a file system."""
    return re.sub(r"[^A-Za-z0-9._~-]", "_", wire_part_id(part_id)) or "unknown"
