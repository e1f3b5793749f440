"""Pieces in processes of their own: what one does, or how it ends, harms no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineside.errors import StorageError
from lineside_trainer.errors import TrainerError
from lineside_trainer.study.plan import Piece
from lineside_trainer.study.work import (
    POLL_S,
    Queue,
    Told,
    command_of,
    do_here,
    is_done,
    path_beside,
    record_failure,
)

_CALL: Final = "import sys; sys.argv[0] = 'lineside'; from lineside.cli.main import main; main()"
_END_S: Final = 10.0
_OURS: Final = "lineside: "
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, kw_only=True)
class _Child:
    piece: Piece
    process: subprocess.Popen[bytes]
    held: ExitStack
    slot: int


class Crew:
    """So many pieces at once, each done by its public verb in a process of its own.

    Args:
        processes: at once.
        devices: GPUs that they are dealt out to; 0 leaves them all to each.
        told: see `work.do_pieces`.
    """

    def __init__(self, processes: int, devices: int, told: Told) -> None:
        self._processes = processes
        self._devices = devices
        self._told = told
        self._children: list[_Child] = []

    def do(self, pieces: Sequence[Piece]) -> None:
        """Do all that are not done; a piece waits for the pre-training it needs.

        Raises:
            StorageError: the disk is full, read-only or gone.
            KeyboardInterrupt: the user stopped it; what was begun goes on at the next call.
        """
        queue = Queue(pieces, self._told)
        try:
            with _stop_asked() as stop_asked:
                while queue.waiting or self._children:
                    if stop_asked():
                        raise KeyboardInterrupt
                    begun = self._begin_one(queue)
                    ended = self._reap()
                    if not (begun or ended):
                        time.sleep(POLL_S)
        finally:
            for child in self._children:
                _end(child.process)
                child.held.close()

    def _begin_one(self, queue: Queue) -> bool:
        if len(self._children) >= self._processes:
            return False
        taken = queue.take([child.piece for child in self._children])
        if taken is None:
            return False
        with ExitStack() as held:
            held.enter_context(taken.held)
            if taken.piece.kind == "trivial":  # seconds; a process would take longer to start
                self._told(taken.piece, do_here(taken.piece))
                return True
            slot = min(set(range(self._processes)) - {child.slot for child in self._children})
            process = self._start(taken.piece, slot, taken.lock)
            child = _Child(piece=taken.piece, process=process, held=held.pop_all(), slot=slot)
            self._children.append(child)
        return True

    def _start(self, piece: Piece, slot: int, lock: int) -> subprocess.Popen[bytes]:
        call = [sys.executable, "-c", _CALL, *command_of(piece)[1:]]
        path = path_beside(piece, "log")
        try:
            with path.open("wb") as log:
                return subprocess.Popen(
                    call,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment(slot),
                    # Where this process is killed, the child's copy still holds the lock.
                    pass_fds=(lock,),
                )
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error

    def _environment(self, slot: int) -> dict[str, str]:
        env = dict(os.environ)
        if self._processes > 1:
            share = max(1, (os.cpu_count() or 1) // self._processes)
            env.setdefault("OMP_NUM_THREADS", str(share))
        if self._devices:
            seen = env.get(_VISIBLE, "").split(",") if env.get(_VISIBLE) else []
            names = seen or [str(number) for number in range(self._devices)]
            env[_VISIBLE] = names[slot % min(self._devices, len(names))]
        return env

    def _reap(self) -> bool:
        ended = [child for child in self._children if child.process.poll() is not None]
        for child in ended:
            self._children.remove(child)
            done = child.process.returncode == 0 and is_done(child.piece)
            words = "done" if done else record_failure(child.piece, _why(child))
            child.held.close()
            self._told(child.piece, words)
        return bool(ended)


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came. An exception in the midst of starting a child would leave it
    to nobody, and SIGTERM's own way out would leave all of them."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _why(child: _Child) -> str:
    """The child's own last words, or how it ended where it had none."""
    path, status = path_beside(child.piece, "log"), child.process.returncode
    lines = _read_lines(path)
    ours = [line.removeprefix(_OURS) for line in lines if line.startswith(_OURS)]
    if ours and status > 0:
        return ours[-1]
    how = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{how}; see {path}"


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
