"""``lineside rollout``: a bundle for many stations, in waves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from lineside.cli.options import (
    Seconds,
    json_option,
    password_options,
    read_password,
    trust_option,
)

if TYPE_CHECKING:
    from lineside.cli.rollout_show import JsonLines, Lines
    from lineside.fleet import Conductor, Journal, Plan, Rollout, RolloutResult, Rules, StationsFile

_AGAIN: Final = "the same command goes on where it was"


@click.command()
@click.argument("bundle", metavar="FILE.lsb", type=click.Path(path_type=Path))
@click.option(
    "--stations",
    "stations_file",
    required=True,
    metavar="FILE.toml",
    type=click.Path(path_type=Path),
    help="Which stations, and their broker.",
)
@click.option("--key", metavar="FILE.key", help="Who commands; every station must trust it.")
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="So many stations come first, alone.",
)
@click.option(
    "--waves",
    default="10%,50%,100%",
    show_default=True,
    help="How many are reached after each wave, the canary among them: counts or shares.",
)
@click.option(
    "--order",
    type=click.Choice(["file", "hash"]),
    default="file",
    show_default=True,
    help="hash: drawn anew for each bundle, so that the canary is not always the same one.",
)
@click.option("--tag", "tags", multiple=True, help="Only stations with it; may be given again.")
@click.option(
    "--max-failures",
    default="10%",
    show_default=True,
    metavar="N|N%",
    help="After the canary so many of those reached may fail; one more stops the rollout.",
)
@click.option(
    "--max-canary-failures",
    default="0",
    show_default=True,
    metavar="N|N%",
    help="Of the canary so many may fail.",
)
@click.option(
    "--on-failure",
    type=click.Choice(["revert", "stop"]),
    default="revert",
    show_default=True,
    help="When it stops. revert: stations of this rollout give the bundle back. stop: they keep "
    "it.",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="So many stations are sent the bundle at the same time.",
)
@click.option(
    "--timeout-s",
    type=Seconds(),
    default=900,
    show_default=True,
    help="For a station to take the bundle; and for one that is offline to come back.",
)
@click.option(
    "--trial-timeout-s",
    type=Seconds(),
    default=7200,
    show_default=True,
    help="From then on for its trial to be confirmed.",
)
@click.option(
    "--state",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="Where it notes how far it is. Default: FILE.rollout.json beside the bundle.",
)
@click.option("--retry", is_flag=True, help="Try again with stations that failed or reverted.")
@click.option(
    "--revert", "take_back", is_flag=True, help="Have this rollout's stations give it back."
)
@click.option("--dry-run", is_flag=True, help="Show the waves and end.")
@trust_option
@password_options
@json_option
def rollout(
    bundle: Path,
    stations_file: Path,
    key: str | None,
    canary: int,
    waves: str,
    order: Literal["file", "hash"],
    tags: tuple[str, ...],
    max_failures: str,
    max_canary_failures: str,
    on_failure: Literal["revert", "stop"],
    at_once: int,
    timeout_s: float,
    trial_timeout_s: float,
    state: Path | None,
    retry: bool,
    take_back: bool,
    dry_run: bool,
    trust: tuple[Path, ...],
    password_env: str | None,
    ask_password: bool,
    as_json: bool,
) -> None:
    """Bring a bundle to many stations: a canary first, then waves.

    Each wave begins once every station of the one before has confirmed the bundle or failed, and
    stops where more failed than may. Killed or interrupted, the same command goes on where it was.
    Stations that have the bundle are skipped.

    Exit codes: 0 confirmed by all, 1 not by all, 8 broker, 130 interrupted.

    Example: lineside rollout joint.lsb --stations stations.toml --canary 1 --waves 10,50,100%
    --key operator.key
    """
    from lineside.fleet import Rules, parse_amount

    rules = Rules(
        canary_failures=parse_amount(max_canary_failures, path="max-canary-failures"),
        failures=parse_amount(max_failures, path="max-failures"),
        at_once=at_once,
        timeout_s=timeout_s,
        trial_timeout_s=trial_timeout_s,
        on_failure=on_failure,
    )
    task = _Task(bundle, stations_file, trust=trust, tags=tags)
    plan = task.plan(canary, waves, order)
    if dry_run:
        _show_plan(plan, task, as_json)
        return
    if key is None:
        raise click.UsageError("Missing option '--key'.")
    with task.open_journal(state) as journal:
        going = _take_up(journal, plan, rules, retry=retry, take_back=take_back)
        if going.is_finished:
            result = task.sum_up(going)
            _end(result, as_json, words="nothing left to do: ")
        else:
            password = read_password(password_env, ask_password)
            result = _run(task, going, journal, key, password, timeout_s, as_json)
    if not result.is_good:
        click.get_current_context().exit(130 if result.outcome == "going_on" else 1)


class _Task:
    """The bundle and the stations that were named."""

    def __init__(
        self, bundle: Path, stations: Path, *, trust: tuple[Path, ...], tags: tuple[str, ...]
    ) -> None:
        from lineside.bundle import open_bundle
        from lineside.fleet import pick, read_stations

        self.path = bundle
        with open_bundle(bundle, trust=trust) as opened:
            self.hash = opened.hash
            self.product = opened.manifest.identity.product
            self.version = opened.manifest.identity.version
        self.file: StationsFile = read_stations(stations)
        self.names = tuple(entry.name for entry in pick(self.file.entries, tags))

    def __str__(self) -> str:
        return f"{self.product} {self.version} ({self.hash[:16]})"

    def plan(self, canary: int, waves: str, order: Literal["file", "hash"]) -> Plan:
        from lineside.fleet import make_plan, parse_waves, put_in_order

        ordered = put_in_order(self.names, order, self.hash)
        return make_plan(ordered, canary=canary, waves=parse_waves(waves))

    def open_journal(self, given: Path | None) -> Journal:
        from lineside.fleet import Journal, state_path

        return Journal(
            state_path(self.path, given),
            bundle_hash=self.hash,
            product=self.product,
            version=self.version,
            stations=self.names,
        )

    def sum_up(self, going: Rollout) -> RolloutResult:
        from lineside.fleet import sum_up

        return sum_up(going, bundle=self.hash, product=self.product, version=self.version)


def _take_up(
    journal: Journal, plan: Plan, rules: Rules, *, retry: bool, take_back: bool
) -> Rollout:
    """Go on with what the file says, or begin."""
    from lineside.errors import RefusedError
    from lineside.fleet import BY_HAND, Rollout, fresh, resumed, retried

    found = journal.read()
    if found is None:
        if take_back:
            raise RefusedError(f"{journal.path}: no rollout of this bundle has begun here")
        return Rollout(plan, rules, fresh(journal.stations))
    going = Rollout(plan, rules, resumed(found))
    if take_back:
        going.take_back(BY_HAND)
    elif retry:
        if found.stopped and not going.is_finished:
            raise RefusedError(
                f"{journal.path}: it has stopped and is not over yet ({found.stopped}); give the "
                "same command without --retry first"
            )
        going = Rollout(plan, rules, retried(found))
    return going


def _run(
    task: _Task,
    going: Rollout,
    journal: Journal,
    key: str,
    password: str | None,
    patience_s: float,
    as_json: bool,
) -> RolloutResult:
    from lineside.bundle import open_signer
    from lineside.fleet import Conductor, Freight
    from lineside.remote.bundlefile import BundleFile
    from lineside.remote.caller import Caller

    signer = open_signer(key, password)
    task.file.mqtt.read_password()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(BundleFile(task.path))
        show = stack.enter_context(_show_of(going, task, file.size_bytes, as_json))
        caller = stack.enter_context(Caller(task.file.mqtt, signer))
        conductor = Conductor(
            going,
            freight=Freight(file=file, bundle_hash=task.hash, product=task.product),
            journal=journal,
            caller=caller,
            settings=task.file.mqtt,
            show=show,
            patience_s=patience_s,
        )
        interrupted = _conduct(conductor)
    result = task.sum_up(going)
    _end(result, as_json)
    if interrupted:
        click.echo(f"lineside: interrupted; {_AGAIN}", err=True)
    return result


def _conduct(conductor: Conductor) -> bool:
    """Returns whether somebody interrupted it."""
    from lineside.errors import BrokerError

    try:
        conductor.run()
    except KeyboardInterrupt:
        return True
    except BrokerError as error:
        raise BrokerError(f"{error}; {_AGAIN}") from error
    return False


def _show_of(going: Rollout, task: _Task, size_bytes: int, as_json: bool) -> JsonLines | Lines:
    from lineside.cli.rollout_show import open_show

    return open_show(going.plan, title=str(task), size_bytes=size_bytes, as_json=as_json)


def _show_plan(plan: Plan, task: _Task, as_json: bool) -> None:
    from lineside.cli.rollout_show import print_plan

    print_plan(plan, title=str(task), bundle=task.hash, as_json=as_json)


def _end(result: RolloutResult, as_json: bool, *, words: str = "") -> None:
    from lineside.cli.rollout_show import print_result

    print_result(result, as_json=as_json, words=words)
