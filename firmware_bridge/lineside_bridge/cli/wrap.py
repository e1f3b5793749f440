"""`lineside sensor wrap`: a bundle as an MCUboot image in a file."""

from __future__ import annotations

from pathlib import Path

import click

from lineside.cli.options import ENGINES, json_option, trust_option
from lineside_bridge.cli.options import image_options, open_wrapping


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="FILE.img",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The image; one that is there is replaced.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES]),
    default="auto",
    show_default=True,
    help="Whose parts it holds. auto: all that the bundle has.",
)
@image_options
@trust_option
@json_option
def wrap(
    bundle: Path,
    out: Path,
    engine: str,
    mcuboot: str | None,
    image_version: str,
    password_env: str | None,
    ask_password: bool,
    trust: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write a bundle as the MCUboot image that `lineside flash --mcuboot` sends.

    For a factory floor that may not have the boot loader's key, and for clients that want an image
    (mcumgr-toolkit's firmware_update). `imgtool verify` checks it; `lineside flash` sends it.

    Example: lineside sensor wrap joint.lsb --mcuboot boot.key --engine onnxruntime --out joint.img
    """
    from lineside.bundle import load_trust
    from lineside.cli.document import format_document
    from lineside.durable import write_durably
    from lineside_bridge.payload import choose_engine, open_sendable, pack_payload

    wrapping = open_wrapping(mcuboot, image_version, password_env, ask_password)
    if wrapping is None:
        raise click.UsageError("which key signs the image? --mcuboot boot.key")
    if _is_same(bundle, out):
        raise click.BadParameter(
            f"{out} is the bundle itself: give another name", param_hint="--out"
        )
    with open_sendable(bundle, trusted=load_trust(trust)) as sendable:
        chosen = choose_engine(sendable.bundle, engine, "")
        payload = pack_payload(sendable, chosen, wrapping)
    write_durably(out, [payload.data])
    if as_json:
        found = {"image": str(out), "size_bytes": len(payload.data), "engine": payload.engine}
        hashes = {"bundle": payload.hash.hex(), "digest": payload.wrapped_hash.hex()}
        click.echo(format_document({**found, **hashes}))
        return
    click.echo(
        f"{out}: {len(payload.data):,} bytes, bundle {payload.hash.hex()[:16]}\n"
        f"image digest {payload.wrapped_hash.hex()}"
    )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # not there yet; or not to be looked at, which reading or writing will name
        return False
