"""A sensor that is served on a line: by a thread of this process, or by one of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from sensor_rig import Rig

from lineside_bridge.sensor import Line, NoiseSettings, Port, PseudoTerminal, make_server


@contextlib.contextmanager
def served(
    rig: Rig,
    *,
    line: Line | None = None,
    paced: bool = False,
    noise: NoiseSettings | None = None,
) -> Iterator[PseudoTerminal]:
    """Yields its terminal."""
    rig.start()
    line = line or Line()
    server = make_server(rig.sensor, line=line)
    end = PseudoTerminal()
    port = Port(end, lambda: server, line=line, paced=paced, noise=noise)
    stopped = threading.Event()
    thread = threading.Thread(target=port.serve, args=(stopped.is_set,))
    thread.start()
    try:
        yield end
    finally:
        stopped.set()
        thread.join()
        end.close()


SIMULATE = "from lineside_bridge.cli.simulate import simulate; simulate()"
SERVE = "from lineside_bridge.cli.serve import serve; serve()"


@contextlib.contextmanager
def process(code: str, *words: object) -> Iterator[dict[str, str]]:
    """Yields the event that says it is ready; ends it by SIGTERM, and well."""
    command = [sys.executable, "-c", code, *map(str, words), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            events = map(json.loads, running.stdout)
            yield next(event for event in events if event["event"] == "ready")
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=60)
            assert running.returncode == 0
