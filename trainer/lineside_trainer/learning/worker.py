"""`python -m lineside_trainer.learning.worker`: one process of a training that `launch` started."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType

import msgspec

from lineside.errors import LinesideError
from lineside_trainer.learning.launch import Failure, Job


def main() -> None:
    """Read the job from standard input, do it, and leave word where it fails."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    sys.argv = job.command
    sys.excepthook = functools.partial(_leave_word, Path(job.failure))
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    if job.verb == "pretrain":
        from lineside_trainer.pretraining import pretrain

        pretrain(job.experiment, Path(job.out), resume=job.resume)
    else:
        from lineside_trainer.tuning import train

        train(job.experiment, Path(job.out), resume=job.resume)


def _leave_word(
    path: Path,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Of whatever ended this process; the launcher shows the first of all, once."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(130)
    ours = isinstance(error, LinesideError)
    failure = Failure(
        kind=kind.__name__ if ours else "",
        message=str(error) if ours else f"{kind.__name__}: {error}",
        trace="" if ours else "".join(traceback.format_exception(kind, error, trace)),
        at_ns=time.monotonic_ns(),
    )
    path.write_bytes(msgspec.json.encode(failure))
    # At once: the others wait for this process, and an orderly end might wait for them.
    os._exit(error.exit_code if isinstance(error, LinesideError) else 1)


def _end_with_launcher() -> None:
    """Standard input ends when the launcher does, however it ended: two runs must never share a
    folder, so a process without its launcher does not train on."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
