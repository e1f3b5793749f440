"""Is the clock synchronised? Verdicts carry its time."""

from __future__ import annotations

from typing import Final

from lineside.doctor.check import Check, State
from lineside.kernelclock import read_kernel_clock

# More than a part takes to pass the station would mix up neighbours in the plant's records.
_LARGE_ERROR_S: Final = 0.5


def check_clock() -> Check:
    """Ask the kernel, and say what is to be done."""
    try:
        clock = read_kernel_clock()
    except OSError as error:
        return _unknown(error.strerror or str(error))
    return judge_clock(synchronised=clock.synchronised, largest_error_s=clock.largest_error_s)


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
