"""A signed command as it travels on ``cmd/signed``: written, and read without believing it.

```
{"body":"<JSON text>","key":"<32 hex>","sig":"<128 hex>"}
```

The signature (Ed25519) is over ``LSC1`` followed by the body's bytes; the four letters keep a
signature of a bundle or an override from passing for one of a command. docs/commands.md describes
it for other implementations. Pure: no files, no clock.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from lineside.bundle import Signer
from lineside.bundle.canonical import decode_whole
from lineside.bundle.layout import KEY_ID_BYTES, SIGNATURE_BYTES
from lineside.bundle.signer import sign_checked
from lineside.errors import InputDataError
from lineside.mqtt.commands import ID_LIMIT_CHARS
from lineside.mqtt.payload import wire_plain
from lineside.mqtt.schema import TIME_MAX_MS
from lineside.mqtt.topics import StationTopics
from lineside.remote.verbs import Scalar, read_args

SIGNED_LIMIT_BYTES: Final = 4096
MAGIC: Final = b"LSC1"
NONCE_BYTES: Final = 16
LIFETIME_S: Final = 60.0

_Hex16 = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * KEY_ID_BYTES}}}\Z")]
_Hex64 = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * SIGNATURE_BYTES}}}\Z")]
_Nonce = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * NONCE_BYTES}}}\Z")]
_Time = Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX_MS)]
_STATION: Final = re.compile(r"[^/]+/[^/]+/[^/]+")


class CommandBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed; every key is written.

    Attributes:
        v: version of this layout.
        verb: what to do.
        station: ``site/line/name`` of the one that is to do it.
        id: by the sender; the answer has the same.
        nonce: 16 random bytes, 32 hex digits; a station does nothing with one that it knows.
        t: when it was signed, milliseconds since 1970 UTC.
        exp: from then on nobody does it, the same clock.
        args: as the verb asks.
    """

    v: Literal[1] = 1
    verb: str
    station: str
    id: str
    nonce: _Nonce
    t: _Time
    exp: _Time
    args: dict[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A command of which nothing is known but its form.

    Attributes:
        body: JSON, not looked at.
        key_id: whose signature it claims, 16 bytes.
        signature: 64 bytes.
    """

    body: bytes
    key_id: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        return MAGIC + self.body


class _Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    body: str
    key: _Hex16
    sig: _Hex64


def sign_command(
    signer: Signer,
    *,
    verb: str,
    station: StationTopics | str,
    args: Mapping[str, Scalar],
    command_id: str,
    now_unix_ms: int,
    lifetime_s: float = LIFETIME_S,
    nonce: bytes | None = None,
) -> bytes:
    """A payload for ``cmd/signed``.

    Args:
        signer: whose signature.
        verb: what to do.
        station: which is to do it; ``site/line/name``.
        args: as the verb asks.
        command_id: the answer has the same; at most 36 printable ASCII characters.
        now_unix_ms: the clock of whoever signs.
        lifetime_s: so long it may be done; stations take at most their ``commands.lifetime_s``.
        nonce: 16 bytes; ``None``: drawn.

    Raises:
        InputDataError: no station would take it: verb, args, id, station or size.
        SigningError: the key cannot sign.
    """
    found = CommandBody(
        verb=verb,
        station=str(station),
        id=command_id,
        nonce=(secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce).hex(),
        t=now_unix_ms,
        exp=now_unix_ms + round(lifetime_s * 1000),
        args=dict(args),
    )
    body = encode_body(found)
    read_args(verb, read_body(body).args, command_id=command_id)
    signature = sign_checked(signer, MAGIC + body)
    payload = encode_envelope(Envelope(body=body, key_id=signer.public.key_id, signature=signature))
    if len(payload) > SIGNED_LIMIT_BYTES:
        raise InputDataError(f"{len(payload)} bytes signed; at most {SIGNED_LIMIT_BYTES} are read")
    return payload


def encode_body(body: CommandBody) -> bytes:
    """Canonical JSON: keys sorted, no white space, every one written.

    Raises:
        InputDataError: a text or number that JSON cannot hold.
    """
    try:
        return msgspec.json.encode(body, order="sorted")
    except (UnicodeEncodeError, OverflowError) as error:
        raise InputDataError(f"command: {error}") from error


def encode_envelope(envelope: Envelope) -> bytes:
    """As it travels."""
    wire = _Wire(
        body=envelope.body.decode("utf-8"),
        key=envelope.key_id.hex(),
        sig=envelope.signature.hex(),
    )
    return msgspec.json.encode(wire)


def read_envelope(payload: bytes) -> Envelope:
    """Take a payload apart; nothing in it is believed yet.

    Raises:
        InputDataError: too long, not JSON, a key unknown, doubled or missing, digits that are none.
    """
    if len(payload) > SIGNED_LIMIT_BYTES:
        raise InputDataError(f"{len(payload)} bytes; at most {SIGNED_LIMIT_BYTES} are read")
    try:
        wire = decode_whole(payload, _Wire)
        body = wire.body.encode("utf-8")
    except ValueError as error:
        raise InputDataError(str(error)) from error
    return Envelope(body=body, key_id=bytes.fromhex(wire.key), signature=bytes.fromhex(wire.sig))


def read_body(body: bytes) -> CommandBody:
    """Read what was signed; its signature has been looked at before.

    Raises:
        InputDataError: not JSON, a key unknown, doubled or missing, a value outside its limits.
    """
    try:
        found = decode_whole(body, CommandBody)
    except ValueError as error:
        raise InputDataError(f"body: {error}") from error
    if not _STATION.fullmatch(found.station):
        raise InputDataError("body: station: site/line/name")
    if len(found.id) > ID_LIMIT_CHARS or found.id != wire_plain(found.id):
        raise InputDataError(f"body: id: at most {ID_LIMIT_CHARS} printable ASCII without quotes")
    return found
