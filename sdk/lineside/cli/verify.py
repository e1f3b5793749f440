"""`lineside verify`: is this bundle what the factory sealed, and does it work on this machine?"""

from __future__ import annotations

from pathlib import Path

import click

from lineside.cli.options import ENGINES, json_option, trust_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@trust_option
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES, "none"]),
    default="auto",
    show_default=True,
    help="Engine for the golden self-test; auto: every one that is installed and in the bundle; "
    "none: signature and hashes only.",
)
@click.option("--explain", is_flag=True, help="Show all that is sealed: contract, rule, evidence.")
@json_option
def verify(
    bundle: Path, trust: tuple[Path, ...], engine: str, explain: bool, as_json: bool
) -> None:
    """Check a bundle's signature and hashes, then prove it on this machine's engines.

    The golden self-test runs sealed frames through the engine and compares outputs and verdicts
    with the sealed ones. Exit codes: 5 the bundle is refused, 6 the self-test failed.

    Example: lineside verify joint.lsb --trust factory.pub --explain
    """
    from lineside.bundle import open_bundle
    from lineside.cli import verify_report as report
    from lineside.cli.verify_drift import read_reference
    from lineside.errors import SelfTestError

    with open_bundle(bundle, trust=trust) as opened:
        proofs = report.prove(opened, engine)
        if as_json:
            click.echo(report.as_json(opened, proofs, explain=explain))
        else:
            click.echo(report.summarise(opened))
            if explain:
                click.echo("\n" + report.explain(opened.manifest, read_reference(opened)))
            if proofs:
                click.echo("\n" + report.tabulate(proofs))
        failed = [proof for proof in proofs if proof.status == "failed"]
    if failed:
        raise SelfTestError(
            f"{bundle}: the golden self-test failed with "
            + "; ".join(f"{proof.engine}/{proof.precision}: {proof.detail}" for proof in failed)
        )
