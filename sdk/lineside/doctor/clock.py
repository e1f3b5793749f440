"""Is the clock synchronised? Verdicts carry its time."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from lineside.doctor.check import Check, State

_STA_UNSYNC: Final = 0x0040  # linux/timex.h
_TIME_ERROR: Final = 5
# More than a part takes to pass the station would mix up neighbours in the plant's records.
_LARGE_ERROR_S: Final = 0.5


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), up to the fields read here, padded to the kernel's 208."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("padding", ctypes.c_byte * 192),
    )


def check_clock() -> Check:
    """Ask the kernel, which is told by chrony, ntpd, systemd-timesyncd or ptp4l alike."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return _unknown("this system has no adjtimex")
    timex = _Timex()
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        return _unknown(os.strerror(ctypes.get_errno()))
    return judge_clock(
        synchronised=state != _TIME_ERROR and not timex.status & _STA_UNSYNC,
        largest_error_s=timex.maxerror / 1e6,
    )


def judge_clock(*, synchronised: bool, largest_error_s: float) -> Check:
    """Words for what the kernel said.

    Args:
        synchronised: something disciplines the clock.
        largest_error_s: the kernel's upper bound of its error, in seconds.
    """
    if not synchronised:
        return Check(
            topic="clock",
            state=State.WARNING,
            found="not synchronised: verdicts would carry this machine's own time",
            remedy="run systemd-timesyncd or chrony (in a container: on its host)",
        )
    found = f"synchronised, error at most {largest_error_s * 1e3:.1f} ms"
    if largest_error_s > _LARGE_ERROR_S:
        return Check(
            topic="clock",
            state=State.WARNING,
            found=found,
            remedy="check the time server with chronyc sources or timedatectl timesync-status",
        )
    return Check(topic="clock", state=State.OK, found=found)


def _unknown(why: str) -> Check:
    return Check(
        topic="clock",
        state=State.WARNING,
        found=f"cannot be asked: {why}",
        remedy="look with timedatectl or chronyc tracking",
    )
