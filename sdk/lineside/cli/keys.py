"""`lineside keys`: make the keys that seal bundles, and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option, password_options, read_password

if TYPE_CHECKING:
    from lineside.bundle import PublicKey


@click.group()
def keys() -> None:
    """Make and look at the keys that seal bundles.

    The factory keeps NAME.key to itself; every station gets NAME.pub.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for both files; made where it is missing. Default: here.",
)
@password_options
@json_option
def new(name: str, out: Path, password_env: str | None, ask_password: bool, as_json: bool) -> None:
    """Make an Ed25519 key: NAME.key seals, NAME.pub is what stations trust.

    Nothing is ever overwritten. NAME.key can be read by its owner only; give it a password where
    others share the machine.

    Example: lineside keys new factory --out keys
    """
    from lineside.bundle import load_public_key, write_key_pair
    from lineside.errors import StorageError

    password = read_password(password_env, ask_password, confirm=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out}: cannot be made: {error.strerror}") from error
    private_path, public_path = write_key_pair(out, name, password)
    found = _describe(public_path, "public", load_public_key(public_path))
    if as_json:
        click.echo(format_document({"private_file": str(private_path), **found}))
        return
    lock = "with a password" if password is not None else "without a password"
    click.echo(f"{private_path}  seals bundles; keep it to yourself ({lock})")
    click.echo(f"{public_path}  goes to every station, for --trust")
    click.echo(f"key id {found['key_id']}")


@keys.command()
@click.argument("file", type=click.Path(path_type=Path))
@password_options
@json_option
def show(file: Path, password_env: str | None, ask_password: bool, as_json: bool) -> None:
    """Show a key file's id, as bundles and refusals name it.

    A private key is never printed; its public half is.

    Example: lineside keys show factory.pub
    """
    from lineside.bundle import load_private_key, load_public_key
    from lineside.bundle.keys import KEY_SUFFIX

    if file.suffix == KEY_SUFFIX:
        password = read_password(password_env, ask_password)
        found = _describe(file, "private", load_private_key(file, password).public)
    else:
        found = _describe(file, "public", load_public_key(file))
    if as_json:
        click.echo(format_document(found))
        return
    for field, value in found.items():
        click.echo(f"{field.replace('_', ' '):<11} {value}")


def _describe(file: Path, kind: str, key: PublicKey) -> dict[str, str]:
    return {
        "file": str(file),
        "kind": f"Ed25519 {kind} key",
        "name": key.name,
        "key_id": key.key_id.hex(),
        "public_key": key.raw.hex(),
    }
