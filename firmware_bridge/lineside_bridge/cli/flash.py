"""`lineside flash`: bring a bundle into the sensor at a serial port."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option, trust_option
from lineside.cli.table import printable
from lineside_bridge.cli.options import (
    bundle_options,
    line_options,
    open_session,
    open_wrapping,
    port_option,
)

if TYPE_CHECKING:
    from lineside_bridge.flash_report import FlashReport


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@port_option
@line_options
@click.option("--find-baud", is_flag=True, help="Change to the highest rate that holds.")
@bundle_options
@click.option(
    "--no-confirm", is_flag=True, help="Leave the proved bundle on trial; confirm it later."
)
@click.option(
    "--inventory",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for what the sensor says of itself afterwards: slots, versions, counters.",
)
@trust_option
@json_option
def flash(
    bundle: Path,
    port: str,
    baud: int,
    framing: str,
    find_baud: bool,
    engine: str,
    hardware: str,
    mcuboot: str | None,
    image_version: str,
    password_env: str | None,
    ask_password: bool,
    no_confirm: bool,
    inventory: Path | None,
    trust: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Bring a bundle into the sensor at a serial port, prove it there, confirm it.

    Seal, target, key and counter are checked before the first byte. Only pages that the sensor does
    not have are sent; an upload that was cut goes on where it was. Then the sensor tries it, and
    what fails is taken back: until the end it judges by the bundle that it had. What was
    interrupted goes on when it is called again.

    Example: lineside flash joint.lsb --port /dev/ttyUSB0 --baud 921600 --trust factory.pub
    """
    from lineside.bundle import load_trust
    from lineside_bridge.flash import FlashTerms, Watch, flash_bundle
    from lineside_bridge.payload import open_sendable
    from lineside_bridge.probe import ceiling_bytes_per_s
    from lineside_bridge.progress import ProgressLine
    from lineside_bridge.survey import check_inventory, survey, write_inventory

    check_inventory(inventory)
    trusted = load_trust(trust)
    with open_sendable(bundle, trusted=trusted):
        pass  # refused before the port is touched
    wrapping = open_wrapping(mcuboot, image_version, password_env, ask_password)
    terms = FlashTerms(engine=engine, hardware=hardware, wrapping=wrapping, confirm=not no_confirm)
    with open_session(port, baud, framing, faster=find_baud) as session:
        line = ProgressLine(sys.stderr, ceiling_bytes_per_s(session.peer, session.client.link.baud))

        def tell(step: str) -> None:
            line.end()
            # Whoever read along may be gone: what is on trial is brought to its end all the same.
            with contextlib.suppress(OSError):
                click.echo(f"{port}: {step}", err=True)

        try:
            report = flash_bundle(
                session,
                bundle,
                trusted=trusted,
                terms=terms,
                watch=Watch(step=tell, progress=line.show),
            )
        finally:
            line.end()
        click.echo(format_document(document_of(report)) if as_json else tell_report(report))
        if inventory is not None:
            write_inventory(inventory, [survey(session)])


def document_of(report: FlashReport) -> dict[str, object]:
    """For scripts: all that is known, the figures made of it too."""
    import dataclasses

    return {
        **dataclasses.asdict(report),
        "bytes_per_s": round(report.bytes_per_s, 1),
        "share_of_ceiling": None if report.share is None else round(report.share, 4),
    }


def tell_report(report: FlashReport) -> str:
    """For people."""
    who = printable(" ".join(filter(None, (report.serial, report.hardware)))) or "a sensor"
    lines = [
        f"{report.port}: {who}: {report.product} {report.version}, {report.hash[:16]}",
        _tell_sending(report),
        _tell_proof(report),
    ]
    return "\n".join(filter(None, lines))


def _tell_sending(report: FlashReport) -> str:
    if not report.took_s:
        return ""
    told = (
        f"sent {report.sent_bytes:,} of {report.size_bytes:,} bytes in {report.took_s:.1f} s, "
        f"{report.bytes_per_s / 1024:.1f} KiB/s"
    )
    if report.share is not None:
        told += (
            f", {report.share:.0%} of what {report.framing} framing carries at {report.baud} baud"
        )
    if report.resumed_bytes:
        told += f"; {report.resumed_bytes:,} had come before"
    if report.lost:
        told += f"; {report.lost} requests were sent again"
    return told


def _tell_proof(report: FlashReport) -> str:
    if report.already:
        return "it was confirmed there already; nothing was sent"
    proofs = {
        "self_test": "golden self-test passed",
        "answers": "it answers with the new bundle (this sensor has no self-test)",
    }
    return f"{proofs[report.proof]}; {'confirmed' if report.state == 'confirmed' else 'on trial'}"
