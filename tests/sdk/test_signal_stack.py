"""A signal that Python handles finds a stack, whatever engines came and went before."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from tiny_bundle import TinyBundle

# An engine's own core would leave the freed stack of the one that was closed first.
_SIGNALLED: Final = """
import os, signal, sys
import lineside

signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
path, key = sys.argv[1:]
found = [lineside.load(path, trust=key, engine="openvino", threads=1) for _ in range(3)]
while found:
    found.pop(0).close()
os.kill(os.getpid(), signal.SIGTERM)
print("alive")
"""


def test_engines_that_end_in_the_order_they_began_leave_signals_alone(
    tiny_bundle: TinyBundle,
) -> None:
    # In a process of its own: what this is about ends it by SIGSEGV, and no handler hears of that.
    words = [str(tiny_bundle.path), str(tiny_bundle.public_key_path)]

    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, *words], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.split()) == (0, ["heard", "alive"]), done.stderr
