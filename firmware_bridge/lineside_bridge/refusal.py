"""A sensor's no, in words, and as the error that has the right exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from smp import error, image_management, os_management

from lineside_bridge import custom
from lineside_bridge.errors import SensorFullError, SensorRefusedError
from lineside_bridge.message import Failure
from lineside_bridge.requests import IMAGE_GROUP, OS_GROUP

_CODES: Final[dict[int | None, type[IntEnum]]] = {
    None: error.MGMT_ERR,
    OS_GROUP: os_management.OS_MGMT_RET_RC,
    IMAGE_GROUP: image_management.IMG_MGMT_ERR,
}
_FULL: Final = {
    (IMAGE_GROUP, int(image_management.IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE)),
    (IMAGE_GROUP, int(image_management.IMG_MGMT_ERR.NO_FREE_SLOT)),
    (custom.GROUP, int(custom.Code.FULL)),
}


def refuse(what: str, failure: Failure) -> SensorRefusedError:
    """The error to raise.

    Args:
        what: where and at what, e.g. ``/dev/ttyUSB0: image upload``.
    """
    kind = SensorFullError if (failure.group, failure.code) in _FULL else SensorRefusedError
    return kind(
        f"{what}: the sensor says no: {tell_failure(failure)}",
        group=failure.group,
        code=failure.code,
    )


def tell_failure(failure: Failure) -> str:
    """Why, in words: the server's own, and what its number means."""
    words = "; ".join(filter(None, (failure.words, _find_words(failure))))
    group = "" if failure.group is None else f" of group {failure.group}"
    number = f"error {failure.code}{group}"
    return f"{words} ({number})" if words else number


def _find_words(failure: Failure) -> str:
    try:
        if failure.group == custom.GROUP:
            return custom.CODE_WORDS[custom.Code(failure.code)]
        return _CODES[failure.group](failure.code).name.lower().replace("_", " ")
    except (KeyError, ValueError):
        return ""
