"""Start the processes of one training on this machine, watch them, and pass on what one of them
says when it fails. Other machines' processes are torchrun's or srun's to start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lineside.errors import LinesideError, StorageError
from lineside_trainer.errors import (
    DataError,
    ExperimentError,
    MaskError,
    OutOfMemoryError,
    TrainerError,
)
from lineside_trainer.experiment import Experiment

WORKER: Final = "lineside_trainer.learning.worker"
_LOOKED_EVERY_S: Final = 0.05
_GRACE_S: Final = 2.0
"""For the others to say what they know after one has ended; they may be waiting for it."""

_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        StorageError, DataError, ExperimentError, MaskError, OutOfMemoryError, TrainerError,
    )
}  # fmt: skip


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told, as one line on its standard input.

    Attributes:
        verb: "pretrain" or "train".
        experiment: all settings.
        out: the run's folder.
        resume: go on where it stopped.
        command: what was typed, for the report.
        failure: file for its `Failure`.
    """

    verb: str
    experiment: Experiment
    out: str
    resume: bool
    command: list[str]
    failure: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a worker ended.

    Attributes:
        kind: class of the error, where it is one of ours; else "".
        message: of it.
        trace: of an error that is not ours; else "".
        at_ns: when, on this machine's clock; the first is the cause of the others.
    """

    kind: str
    message: str
    trace: str
    at_ns: int


def launch(verb: str, experiment: Experiment, out: Path, *, resume: bool, processes: int) -> None:
    """Run a verb in several processes to its end.

    Args:
        verb: "pretrain" or "train".
        experiment: all settings.
        out: the run's folder.
        resume: go on where it stopped.
        processes: how many, all on this machine.

    Raises:
        LinesideError: what the first process to fail said.
        KeyboardInterrupt: the user stopped it.
    """
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder:
        failures = [Path(folder) / f"{rank}.json" for rank in range(processes)]
        jobs = [
            Job(
                verb=verb,
                experiment=experiment,
                out=str(out),
                resume=resume,
                command=sys.argv,
                failure=str(failure),
            )
            for failure in failures
        ]
        command = [sys.executable, "-m", WORKER]
        supervise(command, [msgspec.json.encode(job) for job in jobs], failures)


def supervise(command: Sequence[str], words: Sequence[bytes], failures: Sequence[Path]) -> None:
    """Start a process for each of `words`, and wait until all are done or one is not.

    Args:
        command: of each process; its environment says which of them it is, as torchrun says it.
        words: a line for the standard input of each; it stays open as long as we live.
        failures: where each leaves a `Failure`.

    Raises:
        LinesideError: what the first process to fail said.
    """
    with _started(command, len(words)) as processes:
        for process, line in zip(processes, words, strict=True):
            _tell(process, line)
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                _give_time(processes)
                break
            time.sleep(_LOOKED_EVERY_S)
        codes = [process.poll() for process in processes]
    if any(codes):
        raise _first_failure(codes, failures)


@contextmanager
def _started(command: Sequence[str], count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """However the block is left, no process outlives it."""
    processes: list[subprocess.Popen[bytes]] = []
    port = _free_port()
    try:
        for rank in range(count):
            environment = os.environ | _environment(rank, count, port)
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        yield processes
    except KeyboardInterrupt:
        # A terminal has told them all; what they write now shall be whole.
        _give_time(processes)
        raise
    finally:
        for process in processes:
            process.kill()
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // count)
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return  # it has ended already, and why is looked at below


def _give_time(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + _GRACE_S
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(_LOOKED_EVERY_S)


def _first_failure(codes: Sequence[int | None], failures: Sequence[Path]) -> LinesideError:
    """The cause: a process that was killed says nothing, and the others only that they lost it."""
    for rank, code in enumerate(codes):
        if code is not None and code < 0 and not failures[rank].exists():
            return TrainerError(
                f"process {rank} of {len(codes)} was ended by {signal.Signals(-code).name} (was "
                "the machine's memory full?); --resume goes on from the last checkpoint"
            )
    said = [msgspec.json.decode(f.read_bytes(), type=Failure) for f in failures if f.exists()]
    if not said:
        return TrainerError(f"a process ended with exit code {next(filter(None, codes))}")
    first = min(said, key=lambda failure: failure.at_ns)
    sys.stderr.write(first.trace)
    return _KINDS.get(first.kind, TrainerError)(first.message)
