"""A message's body: one CBOR map, read leniently. Keys that nobody knows are let be."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import cbor2

from lineside_bridge.errors import MalformedError

# Other people's bodies nest three deep; what is deeper is noise.
_MAX_DEPTH: Final = 16
# Besides its own kind, what the decoders of tagged values (dates, fractions, patterns) let through.
_FAULTS: Final = (
    cbor2.CBORError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
    MemoryError,
)

Body = dict[str, Any]


def encode_body(body: Mapping[str, object]) -> bytes:
    """A map, keys in CBOR's own order, so that the same map always gives the same bytes."""
    return cbor2.dumps(dict(body), canonical=True)


def decode_body(data: bytes, *, whole: bool = False) -> Body:
    """Read a map.

    Args:
        data: a message's bytes behind its header; none are an empty map.
        whole: the map must fill them, which tells a raw message from noise.

    Raises:
        MalformedError: no CBOR, no map, or something behind it that may not be there.
    """
    if not data and not whole:
        return {}
    file = io.BytesIO(data)
    try:
        found = cbor2.CBORDecoder(file, max_depth=_MAX_DEPTH).decode()
    except _FAULTS as error:
        raise MalformedError(f"a body of {len(data)} bytes is no CBOR: {error}") from error
    if not isinstance(found, dict):
        raise MalformedError(f"a body of {len(data)} bytes is no map")
    if whole and file.tell() != len(data):
        raise MalformedError(f"a map of {file.tell()} bytes in a body of {len(data)}")
    return {key: value for key, value in found.items() if isinstance(key, str)}
