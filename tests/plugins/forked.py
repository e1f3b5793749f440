"""Real processes for tests of training, without seconds of imports for each of them.

A server process imports torch and lightning once and forks; what it forks is a process like any
other: it has its own memory, environment and exit code, and can be killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["lineside_trainer.pretraining", "lineside_trainer.tuning", "lineside.cli.main"]
)
_DEADLINE_S = 180.0  # a busy machine is no fault; a process that waits for ever is


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Call a function of an importable module in a process of its own."""
    # One thread each: forked threads of a parent's pool do not exist in the child.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def end(process: BaseProcess) -> int:
    """Wait for its end; its exit code, negative where a signal ended it."""
    process.join(_DEADLINE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError("a process waits for ever")
    return process.exitcode


def command_line(
    arguments: Sequence[str], environment: dict[str, str], said: Path | None = None
) -> None:
    """`lineside ARGUMENTS`; what it says goes to a file. For `start`."""
    os.environ.update(environment)
    sys.argv = ["lineside", *arguments]
    if said is not None:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
    from lineside.cli.main import main

    main()


def lineside(*arguments: str | Path, said: Path | None = None) -> BaseProcess:
    """Begin `lineside ARGUMENTS` in one process."""
    return start(command_line, [str(a) for a in arguments], {}, said)


def torchrun_environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process, all on one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def slurm_environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What srun tells a task, all on one machine."""
    return {
        "SLURM_JOB_ID": "1234",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_NTASKS": str(size),
        "SLURM_NTASKS_PER_NODE": str(size),
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """Of this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def lineside_in_two(
    *arguments: str | Path,
    said: Path,
    environment: Callable[[int, int, int], dict[str, str]] = torchrun_environment,
) -> list[BaseProcess]:
    """Begin `lineside ARGUMENTS` in two processes; they write to SAID/0 and SAID/1."""
    said.mkdir(exist_ok=True)
    port = free_port()
    told = [str(a) for a in arguments]
    return [
        start(command_line, told, environment(rank, 2, port), said / str(rank)) for rank in range(2)
    ]


@contextlib.contextmanager
def killed_at_the_end(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """However the test ends, nothing goes on."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_until(condition: Callable[[], object]) -> None:
    """Look often."""
    until = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.001)
