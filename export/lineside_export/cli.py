"""`lineside export`: candidate in, sealed bundle out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineside.cli.document import format_document
from lineside.cli.options import json_option, password_options, read_password
from lineside_export.rule_options import RuleFlags, check_flags, finite, make_wish, rule_options

if TYPE_CHECKING:
    from lineside_export.road import Export, Order


@click.command(short_help="Quantise, prove and seal a candidate into a bundle.")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Bundle to write."
)
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Private key that seals (`lineside keys new factory`).",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp32"]),
    default="int8",
    show_default=True,
    help="What the bundle's weights are.",
)
@rule_options
@click.option(
    "--engines",
    default="onnxruntime,openvino",
    show_default=True,
    help="Whose files go in, separated by commas.",
)
@click.option(
    "--max-flips",
    type=click.IntRange(min=0),
    help="Verdicts on validation samples that int8 may change. Default: 2 %, at least 1.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0.0),
    default=0.05,
    callback=finite,
    show_default=True,
    help="Relative loss of the task's metric that int8 may cost.",
)
@click.option("--product-version", default="1.0.0", show_default=True, help="Your own version.")
@click.option(
    "--security-counter",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Devices refuse a lower one than they have confirmed.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for figures, written even when a gate is missed. Default: OUT.report, on success.",
)
@password_options
@json_option
def export(  # one parameter for each option
    candidate: Path,
    out: Path,
    key: Path,
    precision: str,
    rule_flags: RuleFlags,
    engines: str,
    max_flips: int | None,
    max_drop: float,
    product_version: str,
    security_counter: int,
    report: Path | None,
    password_env: str | None,
    ask_password: bool,
    as_json: bool,
) -> None:
    """Turn CANDIDATE, a folder that `lineside train` wrote, into a signed bundle.

    Every format is compared with the float program on the validation samples, by the device's own
    engines. One that does not agree fails the export, and nothing is written.

    Limits are given (--limit), chosen on the validation parts (--rule), and, with --max-escape,
    tightened until a promise about escapes is proven on the assurance parts, or it is refused.

    Example: lineside export runs/joint/candidate --out joint.lsb --key factory.key --limit 0.2
    """
    from lineside.bundle import load_private_key
    from lineside_export.candidate import read_candidate
    from lineside_export.gates import Gates
    from lineside_export.road import Order, export_candidate, make_identity

    chosen = _engines(engines)
    check_flags(rule_flags)
    # Before minutes of work: what can be refused at once.
    private_key = load_private_key(key, read_password(password_env, ask_password))
    if not out.parent.is_dir():
        raise click.BadParameter(f"the folder {out.parent} is not there", param_hint="--out")
    read = read_candidate(candidate)
    order = Order(
        out=out,
        key=private_key,
        precision=precision,
        engines=chosen,
        wish=make_wish(rule_flags, read.contract),
        gates=Gates(max_flips=max_flips, max_drop=max_drop),
        identity=make_identity(
            read.contract, version=product_version, security_counter=security_counter
        ),
        report=report or out.with_name(out.name + ".report"),
        report_on_failure=report is not None,
    )
    started_s = time.monotonic()

    def progress(words: str) -> None:
        click.echo(f"{time.monotonic() - started_s:6.1f} s  {words}", err=True)

    done = export_candidate(
        read, order, progress=progress, show=lambda table: click.echo(f"\n{table}\n", err=as_json)
    )
    if as_json:
        click.echo(format_document(_document(done, order)))
    else:
        click.echo(_summary(done, order))


def _engines(listed: str) -> tuple[str, ...]:
    from lineside.engines import ENGINE_NAMES, available_engines

    names = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    for name in names:
        if name not in ENGINE_NAMES:
            raise click.BadParameter(
                f"{name!r}; there are {', '.join(ENGINE_NAMES)}", param_hint="--engines"
            )
        if name not in available_engines():
            raise click.BadParameter(
                f"{name} is not installed, so nothing could be proved with it: "
                f"pip install 'lineside[{name}]'",
                param_hint="--engines",
            )
    if not names:
        raise click.BadParameter("name at least one", param_hint="--engines")
    return names


def _summary(done: Export, order: Order) -> str:
    rule = done.rule
    lines = [
        f"{order.out}: {done.sealed.size_bytes / 1e6:.2f} MB, hash {done.sealed.hash[:16]}, sealed "
        f"by key {order.key.public.key_id.hex()}",
        f"rule: OK up to {rule.ok_limit:g}, NOT_OK beyond {rule.not_ok_limit:g} "
        f"({rule.worse} is worse)",
        *_promised(done, order),
    ]
    lines += [
        f"self-test {test.engine} {test.precision}: {test.told()}" for test in done.sealed.selftests
    ]
    return "\n".join([*lines, f"figures: {order.report}"])


def _promised(done: Export, order: Order) -> list[str]:
    from lineside.cli.verify_decision import tabulate_counts

    guarantee, lines = done.guarantee, []
    if done.decision.part_images == "each" and order.wish.part_images is None:
        lines = [
            "some parts have good and bad images, so each image counts as an inspection "
            "(--part-images)"
        ]
    if guarantee is not None:
        lines += [
            f"promise: at most {100 * guarantee.max_escape:g} % of bad parts are judged OK, with "
            f"{100 * guarantee.confidence:g} % confidence, among parts like the assurance parts",
        ]
        if done.rule.ok_limit != done.untightened.ok_limit:
            lines.append(f"the OK limit was tightened from {done.untightened.ok_limit:g} for it")
        lines += ["", tabulate_counts(guarantee.assurance), ""]
    elif done.decision.validation and order.wish.way != "fixed":
        lines += ["validation parts:", "", tabulate_counts(done.decision.validation), ""]
    return lines


def _document(done: Export, order: Order) -> dict[str, Any]:
    from lineside_export.parity import agreements, metrics

    fields = ("engine", "precision", "output", "samples", *_AGREEMENT_FIGURES)
    return {
        "bundle": str(order.out),
        "hash": done.sealed.hash,
        "size_bytes": done.sealed.size_bytes,
        "limit": {"ok": done.rule.ok_limit, "not_ok": done.rule.not_ok_limit},
        "decision": done.decision,
        "guarantee": done.guarantee,
        "agreements": [
            {name: getattr(found, name) for name in fields} for found in agreements(done.parity)
        ],
        "metrics": metrics(done.parity),
        "golden_frames": done.golden_frames,
        "golden_tolerances": {name: t.by_output for name, t in done.tolerances.items()},
        "report": str(order.report),
    }


_AGREEMENT_FIGURES = ("max_abs_drift", "mean_abs_drift", "verdict_flips")
