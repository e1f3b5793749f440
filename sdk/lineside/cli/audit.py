"""``lineside audit``: proof from the outbox that no verdict was lost."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lineside.cli.options import json_option
from lineside.cli.table import printable

if TYPE_CHECKING:
    from lineside.outbox import AuditReport, Heard, Journal, ReceivedReport

_SHOWN = 20
# What `listen --json` calls messages that carry a verdict.
_KINDS = ("verdict", "history")


@click.command()
@click.argument("outbox", type=click.Path(path_type=Path))
@click.option("--since", metavar="SEQ|DATE", help="Say nothing of what was given before.")
@click.option(
    "--received",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What `lineside listen --json` heard: hold it against what was given.",
)
@json_option
@click.pass_context
def audit(
    context: click.Context, outbox: Path, since: str | None, received: Path | None, as_json: bool
) -> None:
    """Prove that sequence, journal and acknowledgements of OUTBOX match, and list gaps.

    OUTBOX is the station's file ([outbox] path); the station may run, and nothing is changed. Every
    number from 1 to the last must wait or be acknowledged, have its row in the journal, and wait
    as what the journal has the hash of. --since takes a sequence number or a date such as
    2026-11-21 or 2026-11-21T14:30 (this machine's time zone).

    Exit codes: 0 all matches, 1 gaps were found, 7 the file is torn or cannot be read.

    Example: lineside audit /var/lib/lineside/outbox.sqlite --received heard.jsonl
    """
    from lineside.outbox import audit as audit_journal
    from lineside.outbox import compare_received, open_journal

    with open_journal(outbox) as journal:
        since_seq = _since_seq(journal, since)
        report = audit_journal(journal, since_seq=since_seq)
        compared = None
        if received is not None:
            compared = compare_received(journal, _heard(received), since_seq=since_seq)
    if as_json:
        _print_json(report, compared)
    else:
        _print_words(report, compared)
    if report.gap_count or (compared is not None and compared.difference_count):
        context.exit(1)


def _since_seq(journal: Journal, since: str | None) -> int:
    from lineside.outbox import first_seq_since

    if since is None:
        return 1
    if since.isdecimal():
        return max(int(since), 1)
    try:
        moment = datetime.datetime.fromisoformat(since)
        unix_ms = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            "neither a sequence number nor a date such as 2026-11-21T14:30", param_hint="--since"
        ) from error
    return first_seq_since(journal, unix_ms)


def _heard(path: Path) -> Iterator[Heard]:
    """Verdicts of a file of ``lineside listen --json``, one by one."""
    from lineside.errors import InputDataError

    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield from _heard_line(line, f"{path}: line {number}")
    except OSError as error:
        raise InputDataError(f"{path}: {error.strerror}") from error


def _heard_line(line: bytes, source: str) -> Iterator[Heard]:
    import msgspec

    from lineside.errors import InputDataError
    from lineside.mqtt import VerdictMessage
    from lineside.mqtt.payload import encode_verdict
    from lineside.outbox import Heard

    try:
        # A receiver that was killed leaves half a line at the end: a loss to look at, not to hide.
        fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        if fields.get("kind") not in _KINDS:
            return
        message = msgspec.convert(fields, VerdictMessage)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputDataError(
            f"{source}: not of `lineside listen --json`: {error}; take the line out if its writer "
            "was killed there"
        ) from error
    topic = "/".join(str(fields.get(key, "")) for key in ("site", "line", "station", "kind"))
    yield Heard(topic=topic, seq=message.seq, job_id=message.id, payload=encode_verdict(message))


def _print_json(report: AuditReport, compared: ReceivedReport | None) -> None:
    from lineside.cli.document import format_document

    click.echo(format_document({"audit": report, "received": compared}))


def _print_words(report: AuditReport, compared: ReceivedReport | None) -> None:
    kept = report.given - report.journal_from + 1
    click.echo(
        f"{report.path} (ids {report.origin}…)\n"
        f"given         {report.given}\n"
        f"acknowledged  {report.acknowledged}\n"
        f"waiting       {report.waiting}\n"
        f"journal       {report.journalled} rows for the {kept} from seq {report.journal_from} on; "
        f"{report.late} late results, {report.notes} notes"
    )
    for gap in report.gaps[:_SHOWN]:
        _print_place(gap.kind, gap.first, gap.last, gap.detail)
    _print_rest(report.gap_count)
    if compared is not None:
        _print_received(compared)
    good = not report.gap_count and not (compared and compared.difference_count)
    click.echo("all matches" if good else "does not match: see above")


def _print_received(compared: ReceivedReport) -> None:
    click.echo(
        f"received      {compared.received} ({compared.repeated} repeated deliveries, "
        f"{compared.of_others} of other outboxes, {compared.still_waiting} still to come, "
        f"{compared.unproven} older than the journal)"
    )
    for difference in compared.differences[:_SHOWN]:
        _print_place(difference.kind, difference.first, difference.last, difference.detail)
    _print_rest(compared.difference_count)


def _print_rest(count: int) -> None:
    if count > _SHOWN:
        click.echo(f"  … {count - _SHOWN} more (--json lists up to 1000)")


def _print_place(kind: str, first: int, last: int, detail: str) -> None:
    where = f"seq {first}" if first == last else f"seq {first} to {last}"
    words = ": ".join(part for part in (where if first else "", printable(detail)) if part)
    click.echo(f"  {kind:<12}  {words}".rstrip())
