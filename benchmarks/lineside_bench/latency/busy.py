"""Load beside: one process a core that does nothing but compute."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from lineside.engines.machine import usable_cores

# Ends by itself where its parent is gone, whatever ended that.
_SPIN: Final = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextlib.contextmanager
def busy_cores() -> Iterator[int]:
    """As many busy processes as cores this one may use, of its own priority; how many."""
    count = usable_cores()
    begun = [
        subprocess.Popen([sys.executable, "-c", _SPIN], stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for process in begun:
            assert process.stdout is not None
            process.stdout.readline()
        yield count
    finally:
        for process in begun:
            process.kill()
        for process in begun:
            process.communicate()
