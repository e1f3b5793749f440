"""`lineside slots`: a station's two slots for bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lineside.cli.options import (
    ENGINES,
    TRUST_VARIABLE,
    find_trust,
    json_option,
    trust_option,
)

if TYPE_CHECKING:
    from lineside.bundle import TrustedKeys

_Command = TypeVar("_Command", bound=Callable[..., Any])
_REASON_LETTERS = 24


def _store_option(command: _Command) -> _Command:
    return click.option(
        "--store",
        "folder",
        required=True,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="The store's folder, as [bundle] store of the station's file names it.",
    )(command)


def _engine_option(command: _Command) -> _Command:
    return click.option(
        "--engine",
        type=click.Choice(["auto", *ENGINES]),
        default="auto",
        show_default=True,
        help="What must pass the golden self-test here; auto: any.",
    )(command)


def _check_reason(_context: click.Context, _option: click.Parameter, reason: str) -> str:
    is_word = reason.isascii() and reason.isprintable() and " " not in reason
    if not (is_word and 0 < len(reason) <= _REASON_LETTERS):
        raise click.BadParameter(f"one word, at most {_REASON_LETTERS} ASCII letters")
    return reason


@click.group()
def slots() -> None:
    """Install a bundle beside the one in use; then confirm it, or go back.

    The station that uses the store sees each change within a second. Its active bundle is never
    written. Exit codes: 5 the bundle is refused, 6 it does not pass the golden self-test here,
    7 the disk or the store, 9 not done in this state.
    """


@slots.command("list")
@_store_option
@click.option(
    "--trust",
    metavar="FILE|FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    envvar=TRUST_VARIABLE,
    help="Public key that may sign, or a folder of *.pub; may be given again. Without any on this "
    "machine the bundles are listed unverified.",
)
@json_option
def list_slots(folder: Path, trust: tuple[Path, ...], as_json: bool) -> None:
    """Show what lies in both slots, and whether it is whole.

    Each bundle's seal and hashes are checked now.

    Example: lineside slots list --store /var/lib/lineside/slots
    """
    from lineside.cli.document import format_document
    from lineside.cli.slots_report import tell_inventory
    from lineside.installing import take_inventory
    from lineside.slots import open_store

    found = take_inventory(open_store(folder), _trusted(trust))
    click.echo(format_document(found) if as_json else tell_inventory(found))


@slots.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="FILE.LSB")
@_store_option
@click.option("--make", is_flag=True, help="Make the store's folder where it is missing.")
@click.option(
    "--other-product",
    is_flag=True,
    help="The bundle may judge another product than the confirmed one.",
)
@trust_option
@_engine_option
@json_option
def install(
    bundle: Path,
    folder: Path,
    make: bool,
    other_product: bool,
    trust: tuple[Path, ...],
    engine: str,
    as_json: bool,
) -> None:
    """Prove a bundle in the free slot; it is pending then.

    It is checked, copied, verified where it lies, and passes its golden self-test here. The
    station tries it next. Into a store that has no confirmed bundle it goes as confirmed. Run it
    as the user that the station runs as. What is there already is left as it is; what was cut off
    goes on where it was.

    Example: lineside slots install joint.lsb --store /var/lib/lineside/slots
    """
    from lineside.cli.document import format_document
    from lineside.cli.slots_progress import showing_install
    from lineside.cli.slots_report import describe_installed, tell_installed
    from lineside.installing import InstallTerms, install_file
    from lineside.slots import open_store

    with showing_install() as show:
        done = install_file(
            open_store(folder, make=make),
            bundle,
            trust=trust,
            engine=engine,
            terms=InstallTerms(other_product=other_product),
            on_progress=show,
        )
    click.echo(format_document(describe_installed(done)) if as_json else tell_installed(done))


@slots.command()
@_store_option
@json_option
def confirm(folder: Path, as_json: bool) -> None:
    """Confirm the bundle on trial.

    It is what a revert of the next one goes back to. The security counter of its key rises to its
    own, so that nothing older is taken from now on.

    Example: lineside slots confirm --store /var/lib/lineside/slots
    """
    from lineside.cli.document import format_document
    from lineside.cli.slots_report import describe_record, tell_confirmed
    from lineside.slots import open_store

    store = open_store(folder)
    store.confirm()
    record = store.record
    click.echo(format_document(describe_record(record)) if as_json else tell_confirmed(record))


@slots.command()
@_store_option
@click.option(
    "--reason",
    default="command",
    show_default=True,
    callback=_check_reason,
    help="Why, one word: the record keeps it and the station tells it.",
)
@click.option(
    "--trust",
    metavar="FILE|FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    envvar=TRUST_VARIABLE,
    help="Public key that may sign, or a folder of *.pub; may be given again. Needed only to take "
    "back the one confirmed before.",
)
@_engine_option
@json_option
def revert(folder: Path, reason: str, trust: tuple[Path, ...], engine: str, as_json: bool) -> None:
    """Go back to the bundle before.

    Leaves the one on trial, else cancels the pending one, else takes back the one that was
    confirmed before, once that is verified and passes its golden self-test here. What is left has
    to be installed again to be tried again.

    Example: lineside slots revert --store /var/lib/lineside/slots --reason too-many-rejects
    """
    from lineside.cli.document import format_document
    from lineside.cli.slots_report import describe_record, tell_reverted
    from lineside.installing import go_back
    from lineside.slots import open_store

    store = open_store(folder)
    go_back(store, reason, trust=lambda: find_trust(trust), engine=engine)
    record = store.record
    click.echo(format_document(describe_record(record)) if as_json else tell_reverted(record))


def _trusted(given: tuple[Path, ...]) -> TrustedKeys | None:
    from lineside.bundle import load_trust
    from lineside.errors import ConfigurationError

    try:
        places = find_trust(given)
    except ConfigurationError:
        # A store is looked at when something is wrong, and that may be the keys.
        return None
    return load_trust(places)
