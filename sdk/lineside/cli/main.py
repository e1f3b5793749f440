"""`lineside VERB`: verbs are entry points, so that each distribution brings its own.

A verb's module imports nothing heavy at its top; `lineside --help` imports every verb's module
to show its first help line and must stay below 0.3 s.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from importlib import metadata
from typing import Final, TextIO

import click

from lineside.errors import LinesideError, StorageError

# `lineside … > FILE` on a full disk, beyond a quota or a size limit.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_VERB_ORDER = (
    *("dataset", "pretrain", "train", "slim", "rescore", "explain", "compare", "study"),
    *("keys", "export", "verify", "bundle"),
    *("inspect", "run", "slots", "command", "rollout", "listen", "plc-types", "audit", "collect"),
    *("flash", "sensor", "bench", "measure", "doctor"),
)


class _Verbs(click.Group):
    """Finds verbs by the entry point group `lineside.commands`, and loads one only when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = {point.name for point in metadata.entry_points(group="lineside.commands")}
        known = [name for name in _VERB_ORDER if name in found]
        return known + sorted(found.difference(known))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click would cut each first sentence to what is left of one line.
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, verb.get_short_help_str(limit=1000)) for name, verb in commands if verb]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        for point in metadata.entry_points(group="lineside.commands", name=name):
            command = point.load()
            assert isinstance(command, click.Command), f"entry point {name} is no command"
            return command
        return None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lineside")
def lineside() -> None:
    """Turn a factory's own images into inspection models, and run them beside the line.

    Exit codes: 0 done, 1 fault or gate missed, 2 wrong use, 3 bad input data, 4 bad configuration,
    5 bundle or key refused, 6 engine, 7 storage, 8 broker, 9 not done in this state, 10 to 15 a
    sensor or its port.
    """


def main() -> None:
    """Run a verb; our own errors become one line and an exit code, never a trace."""
    # OpenCV writes a page of its own for each damaged image; our errors name the file and why.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # A damaged header may claim any size. OpenCV's own bound takes 6 GiB for 16-bit colour, and a
    # small device whose memory it fills is ended by the kernel, at each start, by the same file.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))
    # OpenMP threads that spin while they wait take the cores from each other as soon as anything
    # else runs: training beside three busy processes, 7 images/s spinning and 39 waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # A file's name need not be UTF-8, nor does every terminal know every letter.
            stream.reconfigure(errors="backslashreplace")
    exit_code = _run()
    _let_go(sys.stdout)
    _let_go(sys.stderr)
    sys.exit(exit_code)


def _run() -> int:
    try:
        # A verb that ends by `context.exit(code)` comes back with that code.
        exit_code = lineside.main(standalone_mode=False)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except LinesideError as error:
        _tell(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted")
        return 130
    except BrokenPipeError:
        # The reader went away (`lineside … | head`): not a fault, and nothing more can be said.
        return 141
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _tell(f"{error.filename or 'standard output'}: {error.strerror}; free space on its disk")
        return StorageError.exit_code
    return exit_code if isinstance(exit_code, int) else 0


def _tell(words: str) -> None:
    # Where standard error is full or gone, the exit code still says what happened.
    with contextlib.suppress(OSError):
        click.echo(f"lineside: {words}", err=True)


def _let_go(stream: TextIO | None) -> None:
    """What cannot be written any more must not become Python's own complaint, nor its exit code."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
