"""Run `lineside` verbs as a user does: print the command, run it, stop at the first failure."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The command of the environment that runs this file, wherever the shell's PATH points.
LINESIDE = Path(sys.executable).with_name("lineside")
PLC_TIMEOUT_S = 120.0
# Somebody else's stations may be on the same broker.
SEEN = ("--site", "demo", "--line", "line1", "--station", "aoi1")
_SHOWN_VERDICTS = 6


class DemoError(Exception):
    """A step failed; the message says which and where to look."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(words: str) -> None:
    """Tell what comes, set apart from what the verbs print."""
    print(f"\n\033[1m{words}\033[0m" if sys.stdout.isatty() else f"\n== {words}", flush=True)


def run_verb(verb: str, *arguments: object) -> str:
    """Run one verb; with ``--json`` its document is returned, else it goes to the terminal.

    Raises:
        DemoError: it ended with another code than 0.
    """
    words = [verb, *map(str, arguments)]
    print(f"$ lineside {shlex.join(words)}", flush=True)
    output = subprocess.PIPE if "--json" in words else None
    done = subprocess.run([LINESIDE, *words], stdout=output, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"lineside {verb} ended with exit code {done.returncode}", done.returncode)
    return done.stdout or ""


@contextmanager
def listening_plc(url: str, count: int, told: Path) -> Iterator[None]:
    """Listen as a PLC would until ``count`` verdicts are heard; what it heard goes to ``told``.

    Raises:
        DemoError: fewer came.
    """
    words = ["listen", url, *SEEN, "--count", str(count), "--timeout-s", f"{PLC_TIMEOUT_S:g}"]
    print(f"$ lineside {shlex.join(words)} &", flush=True)
    complaints = told.with_suffix(".err")
    with told.open("w", encoding="utf-8") as heard, complaints.open("w", encoding="utf-8") as err:
        plc = subprocess.Popen([LINESIDE, *words], stdout=heard, stderr=err)
        try:
            # Verdicts are never retained: the station must not start before the PLC listens.
            _await_words(plc, complaints, "listening on")
            yield
            code = plc.wait(timeout=PLC_TIMEOUT_S)
        finally:
            plc.kill()
            plc.wait()
    if code != 0:
        raise DemoError(f"the PLC did not hear every verdict; see {told} and {complaints}", code)
    _show(told)


def _await_words(process: subprocess.Popen[bytes], file: Path, words: str) -> None:
    deadline_s = time.monotonic() + 30.0
    while words not in file.read_text(encoding="utf-8"):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise DemoError(f"the PLC's view did not start: {file.read_text(encoding='utf-8')}", 8)
        time.sleep(0.05)


def _show(told: Path) -> None:
    lines = told.read_text(encoding="utf-8").splitlines()
    shown = lines[: _SHOWN_VERDICTS + 3], lines[-2:]
    print("\n".join([*shown[0], f"   … {len(lines) - sum(map(len, shown))} more …", *shown[1]]))
