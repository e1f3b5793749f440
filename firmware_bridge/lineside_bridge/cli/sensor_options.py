"""What `lineside sensor serve` and `simulate` have in common, and how they speak and end."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, TypeVar

import click

from lineside.cli.options import ENGINES

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FRAMINGS: Final = ("raw", "cobs", "console")


def identity_options(command: _Command) -> _Command:
    """`--hardware`, `--serial`, `--engine`, `--framing`; the verb gets `facts` and `framings`."""
    for option in reversed(_IDENTITY):
        command = option(command)
    return command


def gather_identity(command: Callable[..., None]) -> Callable[..., None]:
    """Below `identity_options`: makes one value of what they gave."""

    @functools.wraps(command)
    def gathered(
        *,
        hardware: tuple[str, ...],
        serial: str | None,
        engine: str,
        framings: tuple[str, ...],
        **others: object,
    ) -> None:
        from lineside.installing import machine_targets
        from lineside_bridge.framing import Framing
        from lineside_bridge.sensor import Facts

        facts = Facts(
            serial=serial or socket.gethostname(),
            hardware=" ".join(hardware or machine_targets()),
            engine="" if engine == "auto" else engine,
        )
        command(facts=facts, framings=tuple(map(Framing, framings)), **others)

    return gathered


_IDENTITY: Final = (
    click.option(
        "--hardware",
        metavar="WORD",
        multiple=True,
        help="What a bundle's target must be; may be given again. Default: as this machine is "
        "called (LINESIDE_TARGET, /etc/lineside/target), else cpu.",
    ),
    click.option("--serial", metavar="TEXT", help="Serial number. Default: the host's name."),
    click.option(
        "--engine",
        type=click.Choice(["auto", *ENGINES]),
        default="auto",
        show_default=True,
        help="Which form of the model judges here; auto: any that a bundle brings.",
    ),
    click.option(
        "--framing",
        "framings",
        type=click.Choice(_FRAMINGS),
        multiple=True,
        default=_FRAMINGS,
        help="A framing that is understood, best first; may be given again. Default: all three.",
    ),
)

events_option = click.option(
    "--json", "as_json", is_flag=True, help="Print each event as a line of JSON."
)


class Say:
    """Events on stdout, each at once.

    Args:
        as_json: a line of JSON each, else words.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def ready(self, **places: str) -> None:
        """It listens."""
        if self._as_json:
            self._print(json.dumps({"event": "ready", **places}))
        else:
            self._print(places["port"])

    def line(self, line: str) -> None:
        """One of its log."""
        self._print(json.dumps({"event": "log", "line": line}) if self._as_json else line)

    def _print(self, text: str) -> None:
        click.echo(text, err=False)


@contextlib.contextmanager
def until_stopped() -> Iterator[Callable[[], bool]]:
    """Yields a question: whether SIGTERM or Ctrl-C came; a second Ctrl-C ends the process at once.

    A second SIGTERM is no hurry: timeout(1) sends each twice, and what ends in the middle leaves
    its link behind and forgets what its flash held.
    """
    stopped = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
