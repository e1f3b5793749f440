"""`lineside plc-types`: the verdict's types in the words of a PLC."""

from __future__ import annotations

from pathlib import Path

import click

# Those of lineside.plc.DIALECTS; named here so that `lineside --help` imports nothing.
_DIALECTS = ("codesys", "twincat", "scl", "json-schema")


@click.command("plc-types")
@click.option(
    "--dialect", required=True, type=click.Choice(_DIALECTS), help="Whose words the types are in."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; standard output without.",
)
def plc_types(dialect: str, out: Path | None) -> None:
    """Declare the verdict's types for a PLC: packed and parsed, evaluations and reason codes.

    codesys and twincat are Structured Text, scl is an external source for SIMATIC, json-schema is
    for gateways. All come of the one schema that the station writes by, checked against what the
    controllers can take; the same version of Lineside gives the same text.

    Example: lineside plc-types --dialect codesys --out LinesideTypes.st
    """
    from lineside.plc import declare

    text = declare(dialect)
    if out is None:
        click.echo(text, nl=False)
        return
    from lineside.durable import write_durably

    write_durably(out, [text.encode("utf-8")])
    click.echo(f"{out}: {dialect}, {len(text.splitlines())} lines", err=True)
