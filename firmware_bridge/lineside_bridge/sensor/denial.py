"""How a sensor says no: our own faults as numbers that travel."""

from __future__ import annotations

import errno
from typing import Final

from lineside.errors import (
    BundleError,
    DowngradeError,
    EngineError,
    IncompatibleBundleError,
    LinesideError,
    RefusedError,
    RevokedKeyError,
    SelfTestError,
    SignatureError,
    StorageError,
    TargetError,
    UntrustedBundleError,
)
from lineside_bridge.custom import GROUP, Code
from lineside_bridge.message import Failure

# MGMT_ERR of the protocol itself, for requests of version 1, which know no others.
EUNKNOWN: Final = 1
EINVAL: Final = 3
EBADSTATE: Final = 6
ENOTSUP: Final = 8
ECORRUPT: Final = 9
EACCESSDENIED: Final = 11

# Of a disk that took no more: room can be made there, unlike of one that fails.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The first that fits; a kind stands before those that it belongs to.
_CODES: Final[tuple[tuple[type[LinesideError], Code, int], ...]] = (
    (RevokedKeyError, Code.REVOKED, EACCESSDENIED),
    (UntrustedBundleError, Code.STRANGER, EACCESSDENIED),
    (SignatureError, Code.SIGNATURE, EACCESSDENIED),
    (TargetError, Code.TARGET, EACCESSDENIED),
    (IncompatibleBundleError, Code.RUNTIME, EACCESSDENIED),
    (DowngradeError, Code.DOWNGRADE, EACCESSDENIED),
    (BundleError, Code.DAMAGED, ECORRUPT),
    (SelfTestError, Code.SELF_TEST, EBADSTATE),
    (EngineError, Code.ENGINE, EBADSTATE),
    (StorageError, Code.STORAGE, EUNKNOWN),
    (RefusedError, Code.STATE, EBADSTATE),
)


class DeniedError(Exception):
    """A request that is not done; it never leaves the server but as an answer.

    Attributes:
        code: of our group.
        plain: the nearest of the protocol's own numbers.
        words: for the log, and for clients of version 1.
    """

    def __init__(self, code: Code, words: str, *, plain: int = EINVAL) -> None:
        super().__init__(words)
        self.code = code
        self.plain = plain
        self.words = words

    def failure(self, *, numbered: bool) -> Failure:
        """As an answer has it.

        Args:
            numbered: the request's version knows numbers of groups.
        """
        if numbered:
            return Failure(group=GROUP, code=self.code)
        return Failure(group=None, code=self.plain, words=self.words)


class UnknownRequestError(Exception):
    """No such group, or no such command in it: the protocol has a number of its own for that."""


def deny(error: LinesideError) -> DeniedError:
    """The number of an error of ours."""
    if isinstance(error, StorageError) and _is_full(error):
        return DeniedError(Code.FULL, str(error), plain=EUNKNOWN)
    for kind, code, plain in _CODES:
        if isinstance(error, kind):
            return DeniedError(code, str(error), plain=plain)
    return DeniedError(Code.UNKNOWN, str(error), plain=EUNKNOWN)


def _is_full(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL
