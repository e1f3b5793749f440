"""Where a key lies in a token: the part of RFC 7512 that names one key. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from lineside.errors import SigningError

# Opens every token that the system knows; Debian's package p11-kit-modules.
DEFAULT_MODULE: Final = "p11-kit-proxy.so"
_PATH: Final = ("token", "serial", "object", "id", "type")
_QUERY: Final = ("module-path",)


@dataclass(frozen=True, kw_only=True)
class KeyAddress:
    """One key of one token; what is empty fits all.

    Attributes:
        locator: as it was given, for messages.
        module: path of the PKCS#11 library, or a name that the system's loader finds.
        token: the token's label.
        serial: the token's serial number.
        label: the key's CKA_LABEL.
        id: the key's CKA_ID.
    """

    locator: str
    module: str
    token: str
    serial: str
    label: str
    id: bytes


def parse_address(locator: str) -> KeyAddress:
    """Read ``pkcs11:token=…;object=…?module-path=…``.

    Raises:
        SigningError: an attribute that is unknown or twice there, a PIN, or no key named.
    """
    path, _, query = locator.partition(":")[2].partition("?")
    found = _take(locator, path, ";", _PATH)
    asked = _take(locator, query, "&", _QUERY)
    if found.get("type", "private") != "private":
        raise SigningError(f"{locator}: type={found['type']}: only a private key seals")
    if not found.keys() & {"object", "id"}:
        raise SigningError(f"{locator}: names no key: add object=LABEL or id=%01")
    return KeyAddress(
        locator=locator,
        module=unquote(asked.get("module-path", DEFAULT_MODULE)),
        token=unquote(found.get("token", "")),
        serial=unquote(found.get("serial", "")),
        label=unquote(found.get("object", "")),
        id=unquote_to_bytes(found.get("id", "")),
    )


def _take(locator: str, text: str, between: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, text.split(between)):
        name, _, value = pair.partition("=")
        if name in ("pin-value", "pin-source"):
            # What is typed stands in the shell's history, and in the list of processes.
            raise SigningError(f"{name}: give the PIN by --ask-password or --password-env instead")
        if name not in known or name in found or not value:
            raise SigningError(f"{locator}: {pair!r}: give each of {', '.join(known)} once at most")
        found[name] = value
    return found
