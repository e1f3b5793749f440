"""The stack on which a thread takes its signals, put back after a vendor that exchanges it.

A core of OpenVINO gives its thread a signal stack of its own and frees it when it ends; of several
that end in the order in which they began, the thread keeps a freed one, and the next signal that
Python handles ends the process without a word (`lineside.engines.openvino.shared_core`). nncf makes
such cores, and nothing tells it to take ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (
        ("begin", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size_bytes", ctypes.c_size_t),
    )


def read_signal_stack() -> SignalStack:
    """Of the calling thread."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """The calling thread's is the same after the block as before it."""
    if sys.platform != "linux":
        yield
        return
    before = read_signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
