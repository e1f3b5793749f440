"""What a station can be told, by verb, and what each verb needs to know."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from lineside.errors import InputDataError
from lineside.mqtt.commands import (
    ChangeoverCommand,
    DispositionCommand,
    MendedCommand,
    TriggerCommand,
    decode_command,
)

Verb = Literal[
    "trigger",
    "pause",
    "resume",
    "set-limit",
    "range",
    "changeover",
    "install",
    "confirm",
    "revert",
    "disposition",
    "mended",
]
UnsignedVerb = Literal["trigger", "changeover", "disposition", "mended"]
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)
UNSIGNED_VERBS: Final[tuple[UnsignedVerb, ...]] = get_args(UnsignedVerb)
RANGE_LIMIT: Final = 1000

Scalar: TypeAlias = "str | int | float | bool | None"
"""A value of ``args``: they are flat."""

_PRODUCT_LIMIT_CHARS: Final = 128
_URL_LIMIT_CHARS: Final = 512
_BUNDLE: Final = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{48})?")
_BUNDLE_WORDS: Final = "bundle: 64 hex digits of its hash, or the first 16"
_REASON: Final = re.compile(r"[a-z0-9_]{1,24}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_Seq = Annotated[int, msgspec.Meta(ge=1, le=10**12 - 1)]


class PauseArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pause``: every part that comes is ``NOT_DECIDABLE``, until ``resume``."""


class ResumeArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``resume``: parts are inspected again."""


class SetLimitArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``set-limit``: judge more strictly, as long as this bundle is in use.

    Attributes:
        product: whose bundle; ``""``: the one in use.
        bundle: the bundle's hash, 64 hex digits or their first 16: the limits were chosen for it.
        ok, not_ok: in the rule's unit; ``None``: as the station's file has it.
        reset: instead of all that: back to what the station's file has.
    """

    product: str = ""
    bundle: str = ""
    ok: float | None = None
    not_ok: float | None = None
    reset: bool = False

    def __post_init__(self) -> None:
        _check_text("product", self.product, _PRODUCT_LIMIT_CHARS)
        given = self.ok is not None or self.not_ok is not None
        if self.reset and (given or self.bundle):
            raise ValueError("reset goes without bundle, ok and not_ok")
        if not self.reset and not given:
            raise ValueError("give ok, not_ok or both, or reset")
        if not self.reset and not self.bundle:
            raise ValueError(_BUNDLE_WORDS)
        _check_bundle(self.bundle)
        if not all(value is None or math.isfinite(value) for value in (self.ok, self.not_ok)):
            raise ValueError("ok and not_ok are finite numbers")


class RangeArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``range``: publish these verdicts once more, on ``history``.

    Attributes:
        first, last: their ``seq``; at most 1,000.
    """

    first: _Seq
    last: _Seq

    def __post_init__(self) -> None:
        if not 0 <= self.last - self.first < RANGE_LIMIT:
            raise ValueError(f"first to last: 1 to {RANGE_LIMIT} verdicts")


class InstallArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``install``: take this bundle into the free slot; its bytes follow, or lie at an address.

    Attributes:
        sha256: of the whole file, 64 hex digits.
        size: of the whole file, bytes; 0 with ``url``: as the server says.
        url: the name below ``commands.url`` to download it from; ``""``: it comes in chunks.
        product: whose store; ``""``: that of the product in use.
    """

    sha256: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    url: str = ""
    product: str = ""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256: 64 small hex digits")
        if not self.size and not self.url:
            raise ValueError("size: at least 1 byte, but with url")
        _check_text("url", self.url, _URL_LIMIT_CHARS)
        _check_text("product", self.product, _PRODUCT_LIMIT_CHARS)


class ConfirmArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``confirm``: the bundle on trial is good.

    Attributes:
        product: whose; ``""``: of the product in use.
        bundle: only where this one is on trial, 64 hex digits or their first 16; ``""``: any.
    """

    product: str = ""
    bundle: str = ""

    def __post_init__(self) -> None:
        _check_text("product", self.product, _PRODUCT_LIMIT_CHARS)
        _check_bundle(self.bundle)


class RevertArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``revert``: back to the bundle before.

    Attributes:
        product: whose; ``""``: of the product in use.
        reason: a word that the store keeps: at most 24 small letters, digits and ``_``.
        bundle: only where this one would be left, 64 hex digits or their first 16; ``""``: any.
    """

    product: str = ""
    reason: str = "command"
    bundle: str = ""

    def __post_init__(self) -> None:
        _check_text("product", self.product, _PRODUCT_LIMIT_CHARS)
        if not _REASON.fullmatch(self.reason):
            raise ValueError("reason: 1 to 24 small letters, digits and _")
        _check_bundle(self.bundle)


_Own = PauseArgs | ResumeArgs | SetLimitArgs | RangeArgs | InstallArgs | ConfirmArgs | RevertArgs
Args = _Own | TriggerCommand | ChangeoverCommand | DispositionCommand | MendedCommand
_KINDS: Final[dict[str, type[_Own]]] = {
    "pause": PauseArgs,
    "resume": ResumeArgs,
    "set-limit": SetLimitArgs,
    "range": RangeArgs,
    "install": InstallArgs,
    "confirm": ConfirmArgs,
    "revert": RevertArgs,
}
assert set(VERBS) == {*_KINDS, *UNSIGNED_VERBS}


def read_args(verb: str, args: Mapping[str, Scalar], *, command_id: str) -> Args:
    """The arguments of a verb, checked. Those of the unsigned verbs are as in ``cmd/<verb>``.

    Args:
        verb: which.
        args: by name.
        command_id: of the command; the unsigned verbs carry it in themselves.

    Raises:
        InputDataError: no such verb, a key unknown, missing or impossible.
    """
    if verb not in VERBS:
        raise InputDataError(f"unknown verb {verb[:32]!r}; there are {', '.join(VERBS)}")
    if verb not in _KINDS:
        if "id" in args or "kind" in args:
            raise InputDataError("args: id stands beside them, not within")
        return decode_command(verb, msgspec.json.encode({**args, "id": command_id}))
    try:
        found: _Own = msgspec.convert(dict(args), type=_KINDS[verb])
    except msgspec.ValidationError as error:
        words, _, where = str(error).partition(" - at `$")
        key = where.strip("`.")
        raise InputDataError(f"args{'.' if key else ''}{key}: {words}".replace("`", "'")) from error
    return found


def _check_bundle(bundle: str) -> None:
    if bundle and not _BUNDLE.fullmatch(bundle):
        raise ValueError(_BUNDLE_WORDS)


def _check_text(name: str, text: str, limit_chars: int) -> None:
    if len(text) > limit_chars or not text.isprintable():
        raise ValueError(f"{name}: at most {limit_chars} printable characters")
