"""`lineside sensor simulate`: a sensor on a pseudo-terminal, over flash in memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from lineside.cli.options import trust_option
from lineside_bridge.cli.sensor_options import (
    Say,
    events_option,
    gather_identity,
    identity_options,
    until_stopped,
)

if TYPE_CHECKING:
    from lineside.slots import SimulatedFlash
    from lineside_bridge.framing import Framing
    from lineside_bridge.sensor import Facts, NoiseSettings
    from lineside_bridge.sensor.simulation import Setup

_Command = TypeVar("_Command", bound=Callable[..., Any])
_MIB: Final = 1 << 20
_BAUDS: Final = (9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600)
_BUNDLE_LIMIT_BYTES: Final = 256 * _MIB


def _line_options(command: _Command) -> _Command:
    for option in reversed(_LINE):
        command = option(command)
    return command


_LINE: Final = (
    click.option(
        "--baud",
        type=click.IntRange(1),
        help="Carry no more than this rate, garble what a client at another rate sends, and offer "
        "the usual rates (flash --find-baud). Without it: as fast as it goes.",
    ),
    click.option(
        "--bit-error-rate",
        type=click.FloatRange(0, 0.5),
        default=0.0,
        help="Share of bits that arrive turned over, both ways.",
    ),
    click.option(
        "--drop", type=click.FloatRange(0, 1), default=0.0, help="Share of 64 bytes that are lost."
    ),
    click.option(
        "--duplicate",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="Share of 64 bytes that arrive twice.",
    ),
    click.option(
        "--delay-ms", type=click.FloatRange(0), default=0.0, help="An answer is late by up to this."
    ),
    click.option(
        "--reset-every",
        "power_loss_every",
        type=click.IntRange(0),
        default=0,
        metavar="OPERATIONS",
        help="Lose power within flash operations, on average after so many. 0: never.",
    ),
    click.option("--seed", type=int, default=0, help="Of all these chances."),
)


def _gather_noise(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def gathered(
        *,
        bit_error_rate: float,
        drop: float,
        duplicate: float,
        delay_ms: float,
        power_loss_every: int,
        seed: int,
        **others: object,
    ) -> None:
        from lineside_bridge.sensor import NoiseSettings

        noise = NoiseSettings(
            bit_error_rate=bit_error_rate,
            drop=drop,
            duplicate=duplicate,
            delay_ms=delay_ms,
            power_loss_every=power_loss_every,
            seed=seed,
        )
        command(noise=noise, **others)

    return gathered


@click.command()
@click.option("--pty", "as_pty", is_flag=True, help="On a pseudo-terminal; its path is printed.")
@click.option(
    "--link",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A symbolic link to the pseudo-terminal, as long as it runs.",
)
@trust_option
@click.option(
    "--flash",
    "kept",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep the flash's contents here over runs. Without it they end with the process.",
)
@click.option(
    "--slot-mib",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="What each of the two slots holds.",
)
@click.option(
    "--bundle",
    metavar="FILE.lsb",
    type=click.Path(path_type=Path),
    help="Put there as confirmed where the flash holds none yet.",
)
@click.option(
    "--buffer-bytes",
    type=click.IntRange(256, 65_000),
    default=2048,
    show_default=True,
    help="The longest message that it takes, as it tells its clients.",
)
@click.option(
    "--buffer-count",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many at a time, one of them the answer.",
)
@_line_options
@identity_options
@events_option
@gather_identity
@_gather_noise
def simulate(
    as_pty: bool,
    link: Path | None,
    trust: tuple[Path, ...],
    kept: Path | None,
    slot_mib: int,
    bundle: Path | None,
    buffer_bytes: int,
    buffer_count: int,
    baud: int | None,
    noise: NoiseSettings,
    facts: Facts,
    framings: tuple[Framing, ...],
    as_json: bool,
) -> None:
    """Be a sensor: the same server over simulated flash, on a line as bad as you like.

    It boots by the rules of slots, runs the golden self-test with the real engine, and loses power
    where it is told to. The same seed gives the same faults. Ends by SIGTERM or Ctrl-C.

    Example: lineside sensor simulate --pty --link sensor.tty --trust factory.pub --bundle joint.lsb
    """
    from lineside.bundle import load_trust
    from lineside_bridge.sensor import Line
    from lineside_bridge.sensor.simulation import Setup

    if not as_pty:
        raise click.UsageError("say where it is to be found: --pty")
    setup = Setup(
        trusted=load_trust(trust),
        facts=facts,
        framings=framings,
        buffer_bytes=buffer_bytes,
        buffer_count=buffer_count,
        line=Line(baud, tuple(sorted({baud, *_BAUDS}))) if baud else Line(),
        noise=noise,
        kept=kept,
    )
    _run(_prepare_flash(setup, slot_mib * _MIB, bundle), setup, link, Say(as_json))


def _prepare_flash(setup: Setup, slot_bytes: int, bundle: Path | None) -> SimulatedFlash:
    from lineside.errors import BundleError
    from lineside.plainfile import read_whole
    from lineside.slots import SimulatedFlash
    from lineside_bridge.sensor.flash_file import load_flash
    from lineside_bridge.sensor.simulation import put_bundle

    if setup.kept is None:
        flash = SimulatedFlash(slot_bytes=slot_bytes)
    else:
        flash = load_flash(setup.kept, slot_bytes=slot_bytes)
    if bundle is not None:
        try:
            data = read_whole(bundle, limit_bytes=_BUNDLE_LIMIT_BYTES)
        except OSError as error:
            raise BundleError(f"{bundle}: cannot be read: {error.strerror}") from error
        put_bundle(flash, data, setup=setup, name=str(bundle))
    return flash


def _run(flash: SimulatedFlash, setup: Setup, link: Path | None, say: Say) -> None:
    from lineside_bridge.sensor import Logbook, Port, PseudoTerminal
    from lineside_bridge.sensor.simulation import Simulation

    simulation = Simulation(flash, setup, Logbook(say.line))
    with (
        until_stopped() as is_stopped,
        contextlib.closing(simulation),  # last, and whatever ends it: its file and its self-test
        contextlib.closing(PseudoTerminal()) as end,
        _linked(link, end.name),
    ):
        say.ready(port=str(link or end.name), tty=end.name)
        paced = bool(setup.line.baud)
        port = Port(end, simulation.start, line=setup.line, paced=paced, noise=setup.noise)
        port.serve(is_stopped)


@contextlib.contextmanager
def _linked(link: Path | None, name: str) -> Iterator[None]:
    """Left behind by a simulator that was killed, it is replaced."""
    from lineside.errors import StorageError

    if link is None:
        yield
        return
    try:
        if link.is_symlink():
            link.unlink()
        link.symlink_to(name)
    except OSError as error:
        raise StorageError(f"{link}: cannot be made: {error.strerror}") from error
    try:
        yield
    finally:
        link.unlink(missing_ok=True)
