"""The plug-in for ``--key pkcs11:…``: a key that never leaves its token.

By ctypes, because all there is to call is the token maker's own library (PKCS#11 2.40 or newer with
CKM_EDDSA of 3.0). It is initialised and finalised for each use, and nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_ubyte, c_ulong, c_void_p
from typing import Final

from lineside.bundle.keys import PublicKey
from lineside.bundle.layout import SIGNATURE_BYTES
from lineside.bundle.pkcs11_uri import KeyAddress, parse_address
from lineside.errors import SigningError

# Place in CK_FUNCTION_LIST (PKCS#11 2.40, sec. 3.4) and kinds of the arguments.
_FUNCTIONS: Final[dict[str, tuple[int, tuple[type, ...]]]] = {
    "C_Initialize": (0, (c_void_p,)),
    "C_Finalize": (1, (c_void_p,)),
    "C_GetSlotList": (4, (c_ubyte, c_void_p, c_void_p)),
    "C_GetTokenInfo": (6, (c_ulong, c_void_p)),
    "C_OpenSession": (12, (c_ulong, c_ulong, c_void_p, c_void_p, c_void_p)),
    "C_CloseSession": (13, (c_ulong,)),
    "C_Login": (18, (c_ulong, c_ulong, c_char_p, c_ulong)),
    "C_GetAttributeValue": (24, (c_ulong, c_ulong, c_void_p, c_ulong)),
    "C_FindObjectsInit": (26, (c_ulong, c_void_p, c_ulong)),
    "C_FindObjects": (27, (c_ulong, c_void_p, c_ulong, c_void_p)),
    "C_FindObjectsFinal": (28, (c_ulong,)),
    "C_SignInit": (42, (c_ulong, c_void_p, c_ulong)),
    "C_Sign": (43, (c_ulong, c_char_p, c_ulong, c_void_p, c_void_p)),
}
_FUNCTION_COUNT: Final = 68  # later versions only add behind
_CKR_OK: Final = 0
_CKR_ALREADY_INITIALIZED: Final = 0x191
_TOLD: Final = {
    0x30: "the token reports a fault",
    0x32: "the token was removed",
    0x68: "the key may not sign",
    0x70: "the token does not know CKM_EDDSA",
    0xA0: "the PIN is wrong",
    0xA1: "the PIN has letters that the token does not take",
    0xA2: "the PIN is too short or too long",
    0xA4: "the PIN is locked",
    0xE0: "no token is in the slot",
    0x101: "nobody is logged in: give the PIN (--ask-password, --password-env)",
}
_CKF_SERIAL_SESSION: Final = 4
_CKF_TOKEN_INITIALIZED: Final = 0x400
_CKU_USER: Final = 1
_CKA_CLASS, _CKA_LABEL, _CKA_KEY_TYPE, _CKA_ID, _CKA_EC_POINT = 0x0, 0x3, 0x100, 0x102, 0x181
_CKO_PUBLIC_KEY, _CKO_PRIVATE_KEY = 2, 3
_CKK_EC_EDWARDS: Final = 0x40
_CKM_EDDSA: Final = 0x1057
_MAX_SLOTS: Final = 256
# How tokens wrap the 32 bytes of CKA_EC_POINT: OCTET STRING, BIT STRING, or not at all.
_POINT_PREFIXES: Final = (b"\x04\x20", b"\x03\x21\x00", b"")


class _FunctionList(Structure):
    _fields_ = (("version", c_ubyte * 2), ("functions", c_void_p * _FUNCTION_COUNT))


class _Attribute(Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class _Mechanism(Structure):
    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong))


class _TokenInfo(Structure):
    _fields_ = (
        *(("label", c_char * 32), ("maker", c_char * 32), ("model", c_char * 16)),
        *(("serial", c_char * 16), ("flags", c_ulong)),
        *(("counts", c_ulong * 10), ("versions_and_time", c_ubyte * 20)),
    )


class _Module:
    """A PKCS#11 library; every answer but CKR_OK is a `SigningError`."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(path)
            find = self._library.C_GetFunctionList
        except (OSError, AttributeError) as error:
            raise SigningError(
                f"{path}: no PKCS#11 module ({error}): name the token's by ?module-path="
            ) from error
        found = POINTER(_FunctionList)()
        self._judge("C_GetFunctionList", find(byref(found)))
        self._functions = found.contents.functions

    def call(self, name: str, *arguments: object) -> None:
        self._judge(name, self._ask(name, *arguments))

    @contextlib.contextmanager
    def initialised(self) -> Iterator[None]:
        answer = self._ask("C_Initialize", None)
        if answer != _CKR_ALREADY_INITIALIZED:
            self._judge("C_Initialize", answer)
        try:
            yield
        finally:
            if answer == _CKR_OK:
                self._ask("C_Finalize", None)

    def _ask(self, name: str, *arguments: object) -> int:
        place, kinds = _FUNCTIONS[name]
        return int(ctypes.CFUNCTYPE(c_ulong, *kinds)(self._functions[place])(*arguments))

    def _judge(self, name: str, answer: int) -> None:
        if answer != _CKR_OK:
            told = _TOLD.get(answer, "the token refuses")
            raise SigningError(f"{self.path}: {name}: {told} (CKR {answer:#x})")


class Pkcs11Signer:
    """Signs in the token; each signature opens a session of its own.

    Attributes:
        public: as the token's public object says.
    """

    def __init__(self, address: KeyAddress, pin: str | None) -> None:
        """Log in once and read the public key.

        Raises:
            SigningError: module, token or key is not there, or the PIN is wrong.
        """
        self._address = address
        self._pin = pin
        with self._session() as (module, session):
            _find_one(module, session, _CKO_PRIVATE_KEY, address)
            point = _read_point(
                module, session, _find_one(module, session, _CKO_PUBLIC_KEY, address)
            )
        self.public: Final = PublicKey(raw=_unwrap(point, address), name=address.label)

    def sign(self, data: bytes) -> bytes:
        """64 bytes: CKM_EDDSA without parameters, in one call, as tokens want it.

        Raises:
            SigningError: the token refuses.
        """
        with self._session() as (module, session):
            key = _find_one(module, session, _CKO_PRIVATE_KEY, self._address)
            module.call("C_SignInit", session, byref(_Mechanism(_CKM_EDDSA, None, 0)), key)
            signature = (c_ubyte * SIGNATURE_BYTES)()
            length = c_ulong(SIGNATURE_BYTES)
            module.call("C_Sign", session, data, len(data), signature, byref(length))
            return bytes(signature[: length.value])

    @contextlib.contextmanager
    def _session(self) -> Iterator[tuple[_Module, int]]:
        module = _Module(self._address.module)
        with module.initialised():
            session = c_ulong()
            slot = _find_slot(module, self._address)
            module.call("C_OpenSession", slot, _CKF_SERIAL_SESSION, None, None, byref(session))
            try:
                if self._pin is not None:
                    pin = self._pin.encode("utf-8", "surrogateescape")
                    module.call("C_Login", session.value, _CKU_USER, pin, len(pin))
                yield module, session.value
            finally:
                # Logs out too, as it is the only one. A token that is gone cannot answer.
                with contextlib.suppress(SigningError):
                    module.call("C_CloseSession", session.value)


def open_pkcs11(locator: str, password: str | None) -> Pkcs11Signer:
    """The entry point for ``pkcs11:``.

    Args:
        locator: RFC 7512, e.g. ``pkcs11:token=factory;object=seal?module-path=/usr/lib/x.so``.
        password: the user's PIN.

    Raises:
        SigningError: what it names cannot be reached.
    """
    return Pkcs11Signer(parse_address(locator), password)


def _find_slot(module: _Module, address: KeyAddress) -> int:
    slots = (c_ulong * _MAX_SLOTS)()
    count = c_ulong(_MAX_SLOTS)
    module.call("C_GetSlotList", 1, slots, byref(count))
    fitting, labels = [], []
    for slot in slots[: count.value]:
        info = _TokenInfo()
        module.call("C_GetTokenInfo", slot, byref(info))
        if not info.flags & _CKF_TOKEN_INITIALIZED:
            continue  # SoftHSM shows a blank one behind the last
        label, serial = (text.decode("utf-8", "replace").rstrip(" ") for text in _names(info))
        labels.append(f"token={label};serial={serial}")
        if address.token in ("", label) and address.serial in ("", serial):
            fitting.append(int(slot))
    if len(fitting) != 1:
        there = ", ".join(labels) or "none"
        raise SigningError(f"{address.locator}: fits {len(fitting)} tokens; there are: {there}")
    return fitting[0]


def _names(info: _TokenInfo) -> tuple[bytes, bytes]:
    return bytes(info.label), bytes(info.serial)


def _find_one(module: _Module, session: int, kind: int, address: KeyAddress) -> int:
    wanted = [(_CKA_CLASS, bytes(c_ulong(kind))), (_CKA_KEY_TYPE, bytes(c_ulong(_CKK_EC_EDWARDS)))]
    wanted += [(_CKA_LABEL, address.label.encode())] if address.label else []
    wanted += [(_CKA_ID, address.id)] if address.id else []
    # Held here until the token has read what the template points to.
    buffers = [ctypes.create_string_buffer(value, len(value)) for _, value in wanted]
    template = (_Attribute * len(wanted))()
    for attribute, (name, value), buffer in zip(template, wanted, buffers, strict=True):
        attribute.type, attribute.length = name, len(value)
        attribute.value = ctypes.addressof(buffer)
    module.call("C_FindObjectsInit", session, template, len(template))
    found, count = (c_ulong * 2)(), c_ulong()
    module.call("C_FindObjects", session, found, 2, byref(count))
    module.call("C_FindObjectsFinal", session)
    if count.value != 1:
        raise SigningError(f"{address.locator}: {_tell_missing(kind, count.value)}")
    return int(found[0])


def _tell_missing(kind: int, count: int) -> str:
    if count:
        return "fits several keys of the token: name one by id=%01 or the like"
    if kind == _CKO_PUBLIC_KEY:
        return "the token holds no public half of that key: put it there, label and id the same"
    return (
        "no such private Ed25519 key in the token; most show themselves with the PIN only "
        "(--ask-password, --password-env)"
    )


def _read_point(module: _Module, session: int, key: int) -> bytes:
    buffer = ctypes.create_string_buffer(256)
    attribute = _Attribute(_CKA_EC_POINT, ctypes.addressof(buffer), len(buffer))
    module.call("C_GetAttributeValue", session, key, byref(attribute), 1)
    return buffer.raw[: attribute.length]


def _unwrap(point: bytes, address: KeyAddress) -> bytes:
    for prefix in _POINT_PREFIXES:
        if len(point) == len(prefix) + 32 and point.startswith(prefix):
            return point[len(prefix) :]
    raise SigningError(
        f"{address.locator}: is no Ed25519 key: its CKA_EC_POINT has {len(point)} bytes"
    )
