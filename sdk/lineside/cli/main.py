"""`lineside VERB`: verbs are entry points, so that each distribution brings its own.

A verb's module imports nothing heavy at its top; `lineside --help` imports every verb's module
to show its first help line and must stay below 0.3 s.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata

import click

from lineside.errors import LinesideError

_VERB_ORDER = (
    *("dataset", "pretrain", "train"),
    *("keys", "export", "verify"),
    *("inspect", "run", "listen", "bench", "doctor"),
)


class _Verbs(click.Group):
    """Finds verbs by the entry point group `lineside.commands`, and loads one only when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = {point.name for point in metadata.entry_points(group="lineside.commands")}
        known = [name for name in _VERB_ORDER if name in found]
        return known + sorted(found.difference(known))

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
    5 bundle or key refused, 6 engine, 7 storage, 8 broker.
    """


def main() -> None:
    """Run a verb; our own errors become one line and an exit code, never a trace."""
    # OpenCV writes a page of its own for each damaged image; our errors name the file and why.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # OpenMP threads that spin while they wait take the cores from each other as soon as anything
    # else runs: training beside three busy processes, 7 images/s spinning and 39 waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # A verb that ends by `context.exit(code)` comes back with that code.
        exit_code = lineside.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LinesideError as error:
        click.echo(f"lineside: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("lineside: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader went away (`lineside … | head`): not a fault, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(exit_code if isinstance(exit_code, int) else 0)
