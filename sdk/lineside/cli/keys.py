"""`lineside keys`: make the keys that seal bundles, and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import find_trust, json_option, password_options, read_password

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
    from lineside.durable import make_folder

    password = read_password(password_env, ask_password, confirm=True)
    make_folder(out)
    private_path, public_path = write_key_pair(out, name, password)
    found = _describe(public_path, "public", load_public_key(public_path))
    if as_json:
        click.echo(format_document({"private_file": str(private_path), **found}))
        return
    lock = "with a password" if password is not None else "without a password"
    click.echo(f"{private_path}  seals bundles or signs commands; keep it to yourself ({lock})")
    click.echo(f"{public_path}  goes to every station, for --trust or [[commands.keys]]")
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


@keys.command("list")
@click.argument("places", nargs=-1, metavar="[FILE|FOLDER]...", type=click.Path(path_type=Path))
@json_option
def list_keys(places: tuple[Path, ...], as_json: bool) -> None:
    """List whose seal counts in these places, and whose was revoked.

    Without a place: what this machine trusts, as in `lineside verify` without --trust.

    Example: lineside keys list /etc/lineside/trust
    """
    from lineside.bundle import load_trust
    from lineside.cli.table import format_table

    trusted = load_trust(places or find_trust())
    rows = [
        ("revoked" if key.key_id in trusted.revoked else "trusted", key.key_id.hex(), key.name)
        for key in trusted.keys
    ]
    named = {key.key_id for key in trusted.keys}
    rows += [("revoked", key_id.hex(), "") for key_id in sorted(trusted.revoked - named)]
    fields = ("state", "key_id", "name")
    if as_json:
        click.echo(format_document([dict(zip(fields, row, strict=True)) for row in rows]))
    else:
        click.echo(format_table(("state", "key id", "name"), rows))


@keys.command()
@click.argument("key", metavar="FILE.pub|KEYID")
@click.option(
    "--trust",
    "folder",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of trusted keys that gets the revocation.",
)
@json_option
def revoke(key: str, folder: Path, as_json: bool) -> None:
    """Make a device refuse every bundle of a key, also where the key itself still lies there.

    Writes KEYID.revoked into the folder; copy that file to every device. KEYID, as a refusal or
    `lineside keys show` names it, is enough where the .pub is lost.

    Example: lineside keys revoke factory.pub --trust /etc/lineside/trust
    """
    from lineside.bundle import TrustedKeys, load_public_key, load_trust, revoke_key
    from lineside.bundle.keys import TRUST_SUFFIX
    from lineside.bundle.trust import KEY_ID

    known = KEY_ID.fullmatch(key) is not None
    path = revoke_key(folder, bytes.fromhex(key) if known else load_public_key(key))
    held = any(file.suffix == TRUST_SUFFIX for file in folder.iterdir())
    trusted = load_trust(folder) if held else TrustedKeys(keys=())
    if as_json:
        left = [left.key_id.hex() for left in trusted.valid]
        click.echo(format_document({"file": str(path), "key_id": path.stem, "trusted": left}))
        return
    click.echo(f"{path}  refuses every bundle of key {path.stem}; copy it to every device")
    click.echo(f"still trusted in {folder}: {trusted}")


def _describe(file: Path, kind: str, key: PublicKey) -> dict[str, str]:
    return {
        "file": str(file),
        "kind": f"Ed25519 {kind} key",
        "name": key.name,
        "key_id": key.key_id.hex(),
        "public_key": key.raw.hex(),
    }
