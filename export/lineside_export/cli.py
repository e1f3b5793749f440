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
    from lineside_export.order import Order
    from lineside_export.road import Export
    from lineside_export.targets import Target

_LICENCE_LETTERS = 2000


def _in_words(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if len(value) > _LICENCE_LETTERS or not value.isprintable():
        raise click.BadParameter(
            f"at most {_LICENCE_LETTERS} letters on one line: name the licence, e.g. Apache-2.0"
        )
    return value


@click.command(short_help="Quantise, prove and seal a candidate into a bundle.")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Bundle to write."
)
@click.option(
    "--key",
    required=True,
    metavar="FILE|SCHEME:…",
    help="Private key that seals (`lineside keys new factory`), or one in a token (pkcs11:…).",
)
@click.option(
    "--precision",
    "precisions",
    default="auto",
    show_default=True,
    help="Forms that may be sealed, separated by commas, tried in order until one holds: fp32, "
    "fp16, bf16, int8, int8-dynamic, int8-mixed, int8-distilled, int8-weights, int4-weights. "
    "auto: what makes sense on the target, the fastest first.",
)
@click.option(
    "--target",
    type=click.Choice(["cpu", "jetson", "openvino-gpu", "npu"]),
    default="cpu",
    show_default=True,
    help="The hardware it is for: picks engines, forms, and how activations are rounded.",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Make every form (or all that --precision names), measure latency and memory here, draw "
    "the front, and seal the fastest that holds.",
)
@rule_options
@click.option(
    "--engines",
    help="Whose files go in, separated by commas. Default: onnxruntime and openvino, as far as the "
    "target runs them.",
)
@click.option(
    "--max-flips",
    type=click.IntRange(min=0),
    help="Verdicts on validation samples that fewer bits may change. Default: 2 %, at least 1.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0.0),
    default=0.01,
    callback=finite,
    show_default=True,
    help="Relative loss of the task's metric that fewer bits may cost.",
)
@click.option(
    "--max-escape-increase",
    type=click.FloatRange(0.0, 1.0),
    callback=finite,
    help="Bad validation parts judged OK / bad parts may rise by this with fewer bits.",
)
@click.option(
    "--max-overkill-increase",
    type=click.FloatRange(0.0, 1.0),
    callback=finite,
    help="Good validation parts judged NOT_OK / good parts may rise by this with fewer bits.",
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
    "--licence",
    default="",
    callback=_in_words,
    help="Of the model: an SPDX expression or words, up to 2000 letters. Default: not stated.",
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
    key: str,
    precisions: str,
    target: str,
    sweep: bool,
    rule_flags: RuleFlags,
    engines: str | None,
    max_flips: int | None,
    max_drop: float,
    max_escape_increase: float | None,
    max_overkill_increase: float | None,
    product_version: str,
    security_counter: int,
    licence: str,
    report: Path | None,
    password_env: str | None,
    ask_password: bool,
    as_json: bool,
) -> None:
    """Turn CANDIDATE, a folder that `lineside train` wrote, into a signed bundle.

    Every form is compared with the float program on the validation samples, by the device's own
    engines. For each engine the fastest that holds the gates is sealed; where none holds the export
    fails, and nothing is written.

    Limits are given (--limit), chosen on the validation parts (--rule), and, with --max-escape,
    tightened until a promise about escapes is proven on the assurance parts, or it is refused.

    Example: lineside export runs/joint/candidate --out joint.lsb --key factory.key --limit 0.2
    """
    from lineside.bundle import open_signer
    from lineside_export.candidate import read_candidate
    from lineside_export.errors import ExportError
    from lineside_export.gates import Gates
    from lineside_export.identity import make_identity
    from lineside_export.order import Order
    from lineside_export.road import export_candidate
    from lineside_export.seal import check_place
    from lineside_export.search import wished_schemes
    from lineside_export.targets import find_target

    hardware = find_target(target)
    chosen = _engines(engines, hardware)
    wished = tuple(dict.fromkeys(w.strip() for w in precisions.split(",") if w.strip()))
    if not wished:
        raise click.BadParameter("name at least one", param_hint="--precision")
    try:
        for engine in chosen:
            wished_schemes(wished, hardware, engine)
    except ExportError as error:
        raise click.BadParameter(str(error), param_hint="--precision") from error
    check_flags(rule_flags)
    # Before minutes of work: what can be refused at once.
    private_key = open_signer(key, read_password(password_env, ask_password))
    if not out.parent.is_dir():
        raise click.BadParameter(f"the folder {out.parent} is not there", param_hint="--out")
    check_place(out)
    figures = report or out.with_name(out.name + ".report")
    if figures.exists() and not figures.is_dir():
        raise click.BadParameter(f"{figures} is there and no folder", param_hint="--report")
    read = read_candidate(candidate)
    order = Order(
        out=out,
        key=private_key,
        target=hardware,
        precisions=wished,
        sweep=sweep,
        engines=chosen,
        wish=make_wish(rule_flags, read),
        gates=Gates(
            max_flips=max_flips,
            max_drop=max_drop,
            max_escape_increase=max_escape_increase,
            max_overkill_increase=max_overkill_increase,
        ),
        identity=make_identity(
            read.contract,
            version=product_version,
            security_counter=security_counter,
            target=hardware.name,
        ),
        licence=licence,
        report=figures,
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


def _engines(listed: str | None, target: Target) -> tuple[str, ...]:
    from lineside.engines import ENGINE_NAMES, available_engines

    words = target.engines if listed is None else [word.strip() for word in listed.split(",")]
    names = tuple(dict.fromkeys(word for word in words if word))
    for name in names:
        if name not in ENGINE_NAMES:
            raise click.BadParameter(
                f"{name!r}; there are {', '.join(ENGINE_NAMES)}", param_hint="--engines"
            )
        if name not in target.engines:
            raise click.BadParameter(
                f"{name} does not run on {target.name}; there it is {', '.join(target.engines)}",
                param_hint="--engines",
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
    from lineside.cli.verify_decision import tell_way

    rule = done.settled.rule
    lines = [
        f"{order.out}: {done.sealed.size_bytes / 1e6:.2f} MB, hash {done.sealed.hash[:16]}, sealed "
        f"by key {order.key.public.key_id.hex()}",
        f"rule: OK up to {rule.ok_limit:g}, NOT_OK beyond {rule.not_ok_limit:g} "
        f"({rule.worse} is worse), {tell_way(done.settled.decision)}",
        *_promised(done, order),
    ]
    lines += [
        f"self-test {test.engine} {test.precision}: {test.told()}" for test in done.sealed.selftests
    ]
    lines += [
        f"{found.label} keeps in float: {', '.join(found.made.kept_float)}"
        for found in done.tried
        if found.chosen and found.made is not None and found.made.kept_float
    ]
    lines += [f"not checked here: {words}" for words in order.target.unchecked]
    return "\n".join([*lines, f"figures: {order.report}"])


def _promised(done: Export, order: Order) -> list[str]:
    from lineside.cli.verify_decision import tabulate_counts, tell_overkill

    guarantee, lines = done.settled.guarantee, []
    if done.settled.decision.part_images == "each" and order.wish.part_images is None:
        lines = [
            "some parts have good and bad images, so each image counts as an inspection "
            "(--part-images)"
        ]
    if guarantee is not None:
        lines += [
            f"promise: at most {100 * guarantee.max_escape:g} % of bad parts are judged OK, with "
            f"{100 * guarantee.confidence:g} % confidence, among parts like the assurance parts",
        ]
        if done.settled.rule.ok_limit != done.settled.chosen.ok_limit:
            lines.append(f"the OK limit was tightened from {done.settled.chosen.ok_limit:g} for it")
        lines += ["", tabulate_counts(guarantee.assurance), ""]
    elif done.settled.decision.validation and order.wish.way != "fixed":
        lines += ["validation parts:", "", tabulate_counts(done.settled.decision.validation), ""]
    bound = done.settled.decision.overkill_bound
    if bound is not None:
        lines.append(f"overkill: {tell_overkill(bound)}")
    return lines


def _document(done: Export, order: Order) -> dict[str, Any]:
    from lineside_export.parity import agreements, metrics

    fields = (
        *("engine", "precision", "batch", "threads", "output", "samples"),
        *("max_abs_drift", "mean_abs_drift", "verdict_flips", "flip_bound"),
    )
    return {
        "bundle": str(order.out),
        "hash": done.sealed.hash,
        "size_bytes": done.sealed.size_bytes,
        "limit": {"ok": done.settled.rule.ok_limit, "not_ok": done.settled.rule.not_ok_limit},
        "decision": done.settled.decision,
        "guarantee": done.settled.guarantee,
        "agreements": [
            {name: getattr(found, name) for name in fields} for found in agreements(done.parity)
        ],
        "metrics": metrics(done.parity),
        "forms": [
            {
                "engine": found.engine,
                "precision": found.precision,
                "sealed": found.chosen,
                "missed_gates": found.missed,
                "size_bytes": found.made.size_bytes if found.made is not None else None,
                "kept_float": found.made.kept_float if found.made is not None else (),
                "cost": found.cost,
            }
            for found in done.tried
        ],
        "target": order.target.name,
        "unchecked": order.target.unchecked,
        "golden_frames": done.golden_frames,
        "golden_tolerances": {name: t.by_output for name, t in done.tolerances.items()},
        "report": str(order.report),
    }
