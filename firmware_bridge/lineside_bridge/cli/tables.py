"""What a sensor says of itself, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lineside.cli.table import format_table, printable

if TYPE_CHECKING:
    from lineside_bridge.custom import Health


def info_rows(found: dict[str, Any], health: Health | None) -> list[tuple[str, str]]:
    """Of a `survey`: who it is, what its line can do, how it is."""
    rows = [*_device_rows(found), *_line_rows(found["line"])]
    if health is not None:
        rows += [("health", "ok" if health.ok else printable(health.words))]
        rows += [("running for", f"{health.uptime_s:.0f} s")]
        rows += [] if health.wear is None else [("most erases of a page", str(health.wear))]
        warm = health.temperature_c
        rows += [] if warm is None else [("temperature", f"{warm:.0f} °C")]
    return rows


def slot_table(found: dict[str, Any]) -> str:
    """Of a `survey`: what lies in the slots."""
    return _our_slots(found["slots"]) if found["slots"] else _stock_slots(found["images"])


def _device_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    device = found["device"]
    if device is None:
        return [
            ("hardware", printable(found["platform"])),
            ("bootloader", printable(found["bootloader"])),
        ]
    rows = [
        (name, printable(str(device[key])))
        for name, key in (
            ("serial number", "serial"),
            ("hardware", "hardware"),
            ("runtime", "runtime"),
        )
    ]
    rows.append(("engine", printable(device["engine"]) or "any"))
    rows.append(("slot holds", f"{device['capacity']:,} bytes"))
    rows += [("trusts key", printable(key)) for key in device["keys"]]
    rows += [
        (f"counter of {printable(key[:16])}", str(count))
        for key, count in device["counters"].items()
    ]
    if device["reverted"]:
        reason = printable(device["reverted"])
        rows.append(("reverted", f"{reason}, {device['reverted_hash'][:16]}"))
    return rows


def _line_rows(line: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("framing", line["framing"]),
        ("rate", f"{line['baud']} baud"),
        ("buffer", f"{line['buffer_bytes']} bytes, {line['window']} requests at a time"),
        ("framings offered", printable(" ".join(line["framings_offered"])) or "-"),
        ("rates offered", " ".join(map(str, line["bauds_offered"])) or "-"),
    ]


def _our_slots(slots: list[dict[str, Any]]) -> str:
    rows = [
        (
            "ab"[slot["slot"]],
            printable(slot["state"]),
            slot["hash"][:16] or "-",
            printable(f"{slot['product']} {slot['version']}".strip()) or "-",
            f"{slot['size']:,}" if slot["size"] else _tell_incoming(slot),
            str(slot["counter"]),
        )
        for slot in slots
    ]
    return format_table(("slot", "state", "hash", "bundle", "bytes", "counter"), rows)


def _stock_slots(images: list[dict[str, Any]]) -> str:
    rows = [
        (
            str(image["slot"]),
            " ".join(key for key in ("active", "confirmed", "pending") if image[key]) or "-",
            image["hash"][:16] or "-",
            printable(image["version"]),
        )
        for image in images
    ]
    return format_table(("slot", "state", "hash", "version"), rows)


def _tell_incoming(slot: dict[str, Any]) -> str:
    return f"{slot['incoming']:,} of {slot['incoming_size']:,}" if slot["incoming_size"] else "-"
