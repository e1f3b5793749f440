"""What the PLCs can take, and whether our types and messages keep to it.

Sources, looked up in November 2026:
CODESYS: content.helpme-codesys.com, MQTT Client SL, MQTTParam: `g_udiMaxPayloadSize` 4096 by
default; its string functions work on 255 characters.
TwinCAT: infosys.beckhoff.com, TF6701, parameter list: `cMaxSizeOfMqttMessage` 102,400 by default,
what is larger is discarded, and no error tells; Tc2_System, T_MaxString: functions take 255.
SIMATIC: docs.industrial-operations-x.siemens.cloud, data type STRING: 0 to 254 characters. A name
of a PLC tag has at most 128 characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lineside.mqtt.schema import PACKED, PAYLOAD_LIMIT_BYTES
from lineside.mqtt.state import STATE_LIMIT_BYTES

# The longest our function blocks take at once; of a state its beginning is enough.
BLOCK_BUFFER_BYTES: Final = 256
# IEC 61131-3: a letter first, no two underscores in a row, none at the end.
_NAME: Final = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")
_WORDS: Final = (
    "abs and any array at begin bool by byte call case char concat const constant date delete "
    "dint div do dt dword else elsif en end eno exit false find for from function goto if in "
    "insert int interface jmp left len limit lint log lreal lword max method mid min mod move "
    "mux nil not of ok on or override pointer program real reference repeat replace ret "
    "return right sel set sint step string struct super task test then this time to true type "
    "udint uint ulint union until usint var while with word wstring xor "
)
_RESERVED: Final = frozenset(_WORDS.split())


@dataclass(frozen=True, kw_only=True)
class PlcLimits:
    """Of one maker's controllers.

    Attributes:
        payload_bytes: what an MQTT message may have with the library's defaults.
        string_chars: what a STRING may have so that every string function takes it.
        name_chars: what a name may have.
    """

    payload_bytes: int
    string_chars: int
    name_chars: int


LIMITS: Final = {
    "codesys": PlcLimits(payload_bytes=4096, string_chars=255, name_chars=255),
    "twincat": PlcLimits(payload_bytes=102_400, string_chars=255, name_chars=255),
    "scl": PlcLimits(payload_bytes=BLOCK_BUFFER_BYTES, string_chars=254, name_chars=128),
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of a declared type; ``string_chars`` 0 where it is no STRING."""

    name: str
    kind: str
    comment: str
    string_chars: int = 0
    pragma: str = ""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A structure, or a set of constants, as a PLC will know it."""

    name: str
    comment: str
    members: Sequence[Member]


def check_limits(types: Sequence[Declared], limits: PlcLimits) -> list[str]:
    """What a controller of these limits would not take; empty where all fits."""
    wrong = [
        f"{name}: {size} bytes, the controller takes {limits.payload_bytes}"
        for name, size in (("verdict", PAYLOAD_LIMIT_BYTES), ("verdict/bin", PACKED.size))
        if size > limits.payload_bytes
    ]
    if min(STATE_LIMIT_BYTES, BLOCK_BUFFER_BYTES) > limits.payload_bytes:
        wrong.append(f"state: {STATE_LIMIT_BYTES} bytes")
    wrong += _check_names([declared.name for declared in types], "type", limits)
    for declared in types:
        names = [member.name for member in declared.members]
        wrong += _check_names(names, declared.name, limits)
        wrong += [
            f"{declared.name}.{member.name}: STRING of {member.string_chars}"
            for member in declared.members
            if member.string_chars > limits.string_chars
        ]
        comments = [declared.comment, *(member.comment for member in declared.members)]
        wrong += [f"{declared.name}: comment {text!r}" for text in comments if not text.isascii()]
    return wrong


def _check_names(names: Sequence[str], place: str, limits: PlcLimits) -> list[str]:
    wrong = [
        f"{place}: {name!r} cannot be a name"
        for name in names
        if not _NAME.fullmatch(name) or len(name) > limits.name_chars or name.lower() in _RESERVED
    ]
    known: set[str] = set()
    for name in names:  # a PLC does not tell capitals apart
        if name.lower() in known:
            wrong.append(f"{place}: {name!r} stands there twice")
        known.add(name.lower())
    return wrong
