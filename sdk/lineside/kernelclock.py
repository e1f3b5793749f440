"""What the kernel says of its clock: chrony, ntpd, systemd-timesyncd and ptp4l alike tell it."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Final

_STA_UNSYNC: Final = 0x0040  # linux/timex.h
_TIME_ERROR: Final = 5


@dataclass(frozen=True, kw_only=True)
class KernelClock:
    """The wall clock, by the kernel's own account.

    Attributes:
        synchronised: something keeps it.
        largest_error_s: the kernel's upper bound of its error, seconds.
    """

    synchronised: bool
    largest_error_s: float


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), up to the fields read here, padded to the kernel's 208."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: only read
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("padding", ctypes.c_byte * 192),
    )


def read_kernel_clock() -> KernelClock:
    """Ask the kernel; nothing is set.

    Raises:
        OSError: this system has no adjtimex, or does not answer; ``strerror`` says which.
    """
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError) as error:
        raise OSError(0, "this system has no adjtimex") from error
    timex = _Timex()
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return KernelClock(
        synchronised=state != _TIME_ERROR and not timex.status & _STA_UNSYNC,
        largest_error_s=timex.maxerror / 1e6,
    )
