"""An error in the words of an answer that says no: its kind first, in a word for programs."""

from __future__ import annotations

from typing import Final

from lineside.errors import (
    BundleError,
    DowngradeError,
    EngineError,
    IncompatibleBundleError,
    InputDataError,
    KeyFileError,
    LinesideError,
    RefusedError,
    RevokedKeyError,
    SelfTestError,
    SignatureError,
    StorageError,
    StoreBusyError,
    TargetError,
    UntrustedBundleError,
)
from lineside.mqtt.commands import DETAIL_LIMIT_CHARS
from lineside.remote.fetching import FetchError

# The first word of an answer that says no, the nearest kind first.
_REASONS: Final[tuple[tuple[type[LinesideError], str], ...]] = (
    (StoreBusyError, "busy"),
    (StorageError, "storage"),
    (DowngradeError, "downgrade"),
    (TargetError, "target"),
    (IncompatibleBundleError, "runtime"),
    (RevokedKeyError, "revoked_seal"),
    (UntrustedBundleError, "untrusted"),
    (SignatureError, "seal"),
    (BundleError, "bundle"),
    (KeyFileError, "trust"),
    (SelfTestError, "self_test"),
    (EngineError, "engine"),
    (InputDataError, "malformed"),
    (FetchError, "download"),
    (RefusedError, "slots"),
)
_HEAD_CHARS: Final = 48


def refusal_words(error: LinesideError) -> str:
    """An error as an answer: its kind in a word, then its message.

    Of a message that is too long for an answer the middle is left out (``~``): it begins with
    paths and names, and what was measured and what to do stand at its end.
    """
    reason = next((word for kind, word in _REASONS if isinstance(error, kind)), "failed")
    words = f"{reason}: {error}"
    if len(words) <= DETAIL_LIMIT_CHARS:
        return words
    return f"{words[:_HEAD_CHARS]}~{words[_HEAD_CHARS + 1 - DETAIL_LIMIT_CHARS :]}"
