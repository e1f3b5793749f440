"""`lineside bundle`: make something of a bundle: a thin copy, another seal, other limits for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.bundle_compare import compare_two
from lineside.cli.document import format_document
from lineside.cli.options import (
    ENGINES,
    json_option,
    password_options,
    read_password,
    trust_option,
)

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable

    from lineside.bundle import Bundle
    from lineside.limits import Limits


@click.group()
def bundle() -> None:
    """Make another bundle of one, sign other limits for it, or compare two.

    A bundle is checked whole before anything is made of it, and the new one before it counts;
    `lineside verify --explain` shows what it holds.
    """


bundle.add_command(compare_two)


def _replace_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--replace", is_flag=True, help="Put the new file in the place of one that is there."
    )(command)


@bundle.command()
@click.argument("source", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--engine", required=True, type=click.Choice(ENGINES), help="Whose parts the device needs."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Thin copy to write. Default: beside BUNDLE, NAME-ENGINE.lsb.",
)
@trust_option
@_replace_option
@json_option
def thin(
    source: Path,
    engine: str,
    out: Path | None,
    trust: tuple[Path, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Copy a bundle without the parts that only other engines need.

    It is the same bundle for every device: same signature, same hash. No private key is needed.

    Example: lineside bundle thin joint.lsb --engine onnxruntime --trust factory.pub
    """
    from lineside.bundle import make_thin_copy, open_bundle

    out = out or source.with_name(f"{source.stem}-{engine}{source.suffix}")
    _refuse_what_is_there(out, source, replace=replace)
    with open_bundle(source, trust=trust) as whole:
        make_thin_copy(whole, out, engine=engine)
        with open_bundle(out, trust=trust) as copy:
            if as_json:
                click.echo(format_document(_document(whole, copy)))
            else:
                click.echo(f"{_size(copy)}, the same seal and hash, {copy.model_id}")
                click.echo(_tell_left_out(whole, copy))


@bundle.command()
@click.argument("source", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    metavar="FILE|SCHEME:…",
    help="Private key that seals from now on, or one in a token (pkcs11:…).",
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Bundle to write."
)
@trust_option
@password_options
@_replace_option
@json_option
def reseal(
    source: Path,
    key: str,
    out: Path,
    trust: tuple[Path, ...],
    password_env: str | None,
    ask_password: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Seal a bundle by another key, when the old one is exchanged.

    Manifest and parts stay as they are, byte for byte. The bundle's hash becomes another one,
    because it covers the key's id. The old seal must still be trusted here.

    Example: lineside bundle reseal joint.lsb --trust old.pub --key new.key --out joint-new.lsb
    """
    from lineside.bundle import TrustedKeys, open_bundle, open_signer, reseal_bundle

    _refuse_what_is_there(out, source, replace=replace)
    with open_bundle(source, trust=trust) as old:
        signer = open_signer(key, read_password(password_env, ask_password))
        reseal_bundle(old, out, key=signer)
        with open_bundle(out, trust=TrustedKeys(keys=(signer.public,))) as new:
            if as_json:
                click.echo(format_document(_document(old, new)))
            else:
                click.echo(f"{_size(new)}, sealed by key {new.signer.key_id.hex()}")
                click.echo(f"hash {new.model_id}, was {old.model_id}")


@bundle.command()
@click.argument("source", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--ok", type=float, help="Scores up to here are OK. Default: as sealed.")
@click.option("--not-ok", type=float, help="Scores beyond this are NOT_OK. Default: as sealed.")
@click.option("--reason", required=True, help="Why, in a line; it is signed, logged, published.")
@click.option("--by", required=True, help="Who decided it.")
@click.option(
    "--date",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Of the decision; no clock is read.",
)
@click.option(
    "--key",
    required=True,
    metavar="FILE|SCHEME:…",
    help="Private key whose .pub the stations trust, or one in a token (pkcs11:…).",
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write."
)
@trust_option
@password_options
@_replace_option
@json_option
def override(
    source: Path,
    ok: float | None,
    not_ok: float | None,
    reason: str,
    by: str,
    date: datetime.datetime,
    key: str,
    out: Path,
    trust: tuple[Path, ...],
    password_env: str | None,
    ask_password: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Sign other limits for a bundle, which a station may not take without.

    The bundle stays as it is, and the file is for this bundle alone. The station's file names it as
    limits.override; the station says in its log and its state who allowed what, and why.

    Example: lineside bundle override joint.lsb --ok 0.25 --not-ok 0.3 --reason "darker lot 17"
    --by "J. Doe" --date 2026-11-21 --key factory.key --out joint.override
    """
    from lineside.bundle import TrustedKeys, open_bundle, open_signer, seal_override
    from lineside.limits import LimitSettings, change_limits, settle_limits

    if ok is None and not_ok is None:
        raise click.UsageError("nothing to override: give --ok, --not-ok, or both")
    _refuse_what_is_there(out, source, replace=replace)
    with open_bundle(source, trust=trust) as opened:
        rule = change_limits(opened.manifest.rule, ok=ok, not_ok=not_ok)
        signer = open_signer(key, read_password(password_env, ask_password))
        day = date.date().isoformat()
        seal_override(out, bundle=opened, rule=rule, reason=reason, by=by, date=day, key=signer)
        trusted = TrustedKeys(keys=(signer.public,))
        limits = settle_limits(opened, LimitSettings(override=out), trusted=trusted)
        if as_json:
            click.echo(format_document(_override_document(out, opened, limits)))
        else:
            click.echo(f"{out}: for {source}, {opened.model_id}, alone")
            click.echo("\n".join(limits.told()))


def _override_document(out: Path, opened: Bundle, limits: Limits) -> dict[str, object]:
    assert limits.override is not None
    signer = limits.override.signer
    return {
        "override": str(out),
        "terms": limits.override.terms,
        "sealed": limits.sealed,
        "signer": {"key_id": signer.key_id.hex(), "name": signer.name},
        "keeps_promise": limits.keeps_promise,
        "of": {"bundle": str(opened.path), "hash": opened.hash},
    }


def _refuse_what_is_there(out: Path, source: Path, *, replace: bool) -> None:
    from lineside.plainfile import is_folder

    if not is_folder(out.parent):
        raise click.BadParameter(f"the folder {out.parent} is not there", param_hint="--out")
    there = _status(out)
    if there is None:
        return
    given = _status(source)
    if given is not None and os.path.samestat(there, given):
        raise click.BadParameter(
            f"{out} is the bundle itself, and nothing brings back what is left out of it: give "
            "another name",
            param_hint="--out",
        )
    if not replace:
        raise click.BadParameter(
            f"{out} is there already: give another name, or --replace", param_hint="--out"
        )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # not there; or not to be looked at, which writing will name
        return None


def _size_bytes(opened: Bundle) -> int:
    return opened.path.stat().st_size


def _size(opened: Bundle) -> str:
    return f"{opened.path}: {_size_bytes(opened):,} bytes"


def _tell_left_out(whole: Bundle, thin: Bundle) -> str:
    left_out = _left_out(whole, thin)
    if not left_out:
        return f"{whole.path} holds nothing that could be left out"
    before, after = _size_bytes(whole), _size_bytes(thin)
    return (
        f"left out {', '.join(left_out)}: {before - after:,} bytes, "
        f"{1 - after / before:.0%} of {whole.path}"
    )


def _left_out(old: Bundle, new: Bundle) -> list[str]:
    return [name for name in old.present if name not in new.present]


def _document(old: Bundle, new: Bundle) -> dict[str, object]:
    return {
        "bundle": str(new.path),
        "hash": new.hash,
        "signer": {"key_id": new.signer.key_id.hex(), "name": new.signer.name},
        "size_bytes": _size_bytes(new),
        "parts_present": new.present,
        "parts_left_out": _left_out(old, new),
        "of": {"bundle": str(old.path), "hash": old.hash, "size_bytes": _size_bytes(old)},
    }
