"""Signed JSON that every reader reads alike: each key once, every field written."""

from __future__ import annotations

import json
from typing import Final, TypeVar

import msgspec

# A key may have 256 KiB and line feeds; what is wrong with it goes into one line of a log.
_MAX_TOLD_LETTERS: Final = 300

_Kind = TypeVar("_Kind", bound=msgspec.Struct)


def decode_whole(data: bytes, kind: type[_Kind]) -> _Kind:
    """Read one signed object; what is wrong with it is told on one short line.

    Raises:
        ValueError: not JSON, an unknown, doubled or missing key, a value outside its limits.
    """
    try:
        decoded = msgspec.json.decode(data, type=kind)
        found = json.loads(data, object_pairs_hook=_take_each_once)
        missing = _find_missing(found, msgspec.to_builtins(decoded), "$")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(on_one_line(str(error))) from error
    if missing:
        raise ValueError(f"{on_one_line(missing)} is missing; sealing writes it")
    return decoded


def on_one_line(words: str) -> str:
    """Short, and printable from end to end."""
    cut = words if len(words) <= _MAX_TOLD_LETTERS else words[:_MAX_TOLD_LETTERS] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


def _take_each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a key that stands there twice one reader takes the first and another the last."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands twice in one object")
        found[key] = value
    return found


def _find_missing(found: object, whole: object, path: str) -> str:
    """The first field that was left to its default: another reader may have another default."""
    if isinstance(whole, dict) and isinstance(found, dict):
        for key, value in whole.items():
            below = f"{path}.{key}"
            deeper = _find_missing(found[key], value, below) if key in found else below
            if deeper:
                return deeper
    elif isinstance(whole, (list, tuple)) and isinstance(found, list):
        for index, (item, value) in enumerate(zip(found, whole, strict=True)):
            deeper = _find_missing(item, value, f"{path}[{index}]")
            if deeper:
                return deeper
    return ""
