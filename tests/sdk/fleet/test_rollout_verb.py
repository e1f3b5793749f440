"""`lineside rollout` as somebody types it; what needs stations is in test_rollout_faults.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from mosquitto_broker import Mosquitto
from tiny_bundle import TinyBundle

from lineside.bundle import open_bundle, write_key_pair
from lineside.cli.rollout import rollout
from lineside.cli.rollout_show import LiveTable
from lineside.errors import BrokerError, ConfigurationError, LinesideError, RefusedError
from lineside.fleet import (
    Journal,
    Phase,
    Place,
    Progress,
    Rollout,
    RolloutState,
    Rules,
    Told,
    Undo,
    fresh,
    make_plan,
    parse_amount,
    parse_waves,
)

NAMES = tuple(f"hall/line/{number}" for number in range(5))
RULES = Rules(
    canary_failures=parse_amount("0", path="x"),
    failures=parse_amount("10%", path="x"),
    at_once=9,
    timeout_s=9,
    trial_timeout_s=9,
    on_failure="revert",
)


class Desk:
    """A folder with what the verb wants."""

    def __init__(self, folder: Path, bundle: TinyBundle) -> None:
        self.bundle = bundle
        self.state_file = folder / "joint.json"
        self.stations = folder / "stations.toml"
        self.list_stations("mqtt://127.0.0.1:1")  # nobody listens there
        self.key, _ = write_key_pair(folder, "operator")

    def list_stations(self, url: str) -> None:
        listed = ", ".join(f'"{name}"' for name in NAMES)
        self.stations.write_text(f'stations = [{listed}]\n[mqtt]\nurl = "{url}"\n')

    def call(self, *words: object) -> Result:
        return CliRunner().invoke(rollout, self.words(*words), catch_exceptions=True)

    def words(self, *words: object) -> list[str]:
        options = (
            *("--stations", self.stations, "--trust", self.bundle.public_key_path),
            *("--state", self.state_file),
        )
        return [str(word) for word in (self.bundle.path, *options, *words)]

    def refuse(self, kind: type[LinesideError], *words: object) -> str:
        result = self.call(*words)
        assert isinstance(result.exception, kind), (result.output, result.exception)
        return str(result.exception)

    def write(self, state: RolloutState, *, bundle_hash: str = "") -> None:
        with open_bundle(self.bundle.path, trust=self.bundle.public_key_path) as bundle:
            found = bundle_hash or bundle.hash
        with Journal(
            self.state_file, bundle_hash=found, product="tiny", version="1", stations=NAMES
        ) as journal:
            journal.write(state)


@pytest.fixture
def desk(tmp_path: Path, tiny_bundle: TinyBundle) -> Desk:
    return Desk(tmp_path, tiny_bundle)


def all_in(others: Phase, **of_first: object) -> RolloutState:
    stations = {name: Progress(phase=others, is_ours=True) for name in NAMES}
    first = msgspec.structs.replace(stations[NAMES[0]], **of_first)
    return RolloutState(stations={**stations, NAMES[0]: first})


def test_dry_run_shows_the_waves_and_touches_nothing(desk: Desk) -> None:
    result = desk.call("--dry-run", "--waves", "3,80%")

    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[3:] == [
        "canary      hall/line/0",
        "wave 1      hall/line/1",
        "wave 1      hall/line/2",
        "wave 2      hall/line/3",
        "in no wave  hall/line/4",
    ]
    assert not desk.state_file.exists()


def test_dry_run_as_a_document(desk: Desk) -> None:
    document = json.loads(desk.call("--dry-run", "--waves", "100%", "--json").stdout)

    assert [wave["wave"] for wave in document["waves"]] == ["canary", "wave 1"]
    assert document["waves"][1]["stations"] == list(NAMES[1:])


def test_without_a_key_nothing_is_done(desk: Desk) -> None:
    assert desk.call().exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--waves", "x"),
        ("--max-failures", "120%"),
        ("--tag", "none"),
        ("--max-canary-failures", ""),
    ],
)
def test_impossible_settings_are_refused(desk: Desk, words: tuple[str, ...]) -> None:
    assert words[0].lstrip("-") in desk.refuse(ConfigurationError, "--key", desk.key, *words)


def test_another_bundles_state_is_refused(desk: Desk) -> None:
    desk.write(fresh(NAMES), bundle_hash="ab" * 32)

    assert "--state" in desk.refuse(RefusedError, "--key", desk.key)


def test_a_broker_that_is_away_is_said_and_may_be_tried_again(desk: Desk) -> None:
    said = desk.refuse(BrokerError, "--key", desk.key, "--timeout-s", "0.2")

    assert "127.0.0.1:1" in said
    assert said.endswith("the same command goes on where it was")
    assert desk.state_file.exists()


@pytest.mark.broker
def test_interrupted_it_ends_with_130_and_says_where_it_stands(desk: Desk, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    desk.list_stations(broker.url)
    # A process of its own: the interrupt would end the one that runs the tests.
    verb = "from lineside.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", verb, "rollout", *desk.words("--key", desk.key, "--json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # It writes where it stands first, and then waits for stations that never come.
        while not desk.state_file.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        broker.kill()

    document = json.loads(out.splitlines()[-1])
    assert process.returncode == 130, err
    assert document["outcome"] == "going_on"
    assert document["counts"] == {"waiting": 5}
    assert "the same command goes on" in err


def test_where_all_is_done_nothing_is_done_again(desk: Desk) -> None:
    desk.write(all_in(Phase.CONFIRMED, phase=Phase.SKIPPED))
    before = desk.state_file.read_bytes()

    result = desk.call("--key", desk.key)

    assert result.exit_code == 0, result.output
    assert "nothing left to do: confirmed by every station: 4 confirmed, 1 skipped" in result.output
    assert desk.state_file.read_bytes() == before


def test_what_has_stopped_says_why_and_what_is_left(desk: Desk) -> None:
    state = all_in(
        Phase.REVERTED, phase=Phase.CONFIRMED, undo=Undo.REFUSED, undo_reason="downgrade"
    )
    desk.write(msgspec.structs.replace(state, stopped="wave 1: 3 failed", is_undoing=True))

    result = desk.call("--key", desk.key)

    assert result.exit_code == 1
    assert "why: wave 1: 3 failed" in result.output
    assert "did not give it back because" in result.output
    assert "--retry" in result.output


def test_the_document_at_the_end(desk: Desk) -> None:
    desk.write(all_in(Phase.CONFIRMED, phase=Phase.FAILED, reason="offline"))

    result = desk.call("--key", desk.key, "--json", "--max-canary-failures", "1", "--waves", "100%")
    document = json.loads(result.stdout)

    assert result.exit_code == 1
    assert document["kind"] == "result"
    assert document["counts"] == {"confirmed": 4, "failed": 1}
    assert document["stations"][0]["reason"] == "offline"


def test_what_is_being_taken_back_is_not_tried_again_meanwhile(desk: Desk) -> None:
    state = all_in(Phase.CONFIRMED)
    desk.write(msgspec.structs.replace(state, stopped="wave 1: 3 failed", is_undoing=True))

    assert "not over yet" in desk.refuse(RefusedError, "--key", desk.key, "--retry")


def test_what_never_began_cannot_be_taken_back(desk: Desk) -> None:
    assert "has begun here" in desk.refuse(RefusedError, "--key", desk.key, "--revert")


def test_the_live_table_is_written_over_itself(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(NAMES, canary=0, waves=parse_waves("100%"))
    going = Rollout(plan, RULES, fresh(NAMES))
    for name in NAMES[:3]:
        going.hear(name, Told(is_online=True, place=Place.TRIAL))
    with LiveTable(plan, title="joint", size_bytes=100) as table:
        table.tick(going, {})
        first = capsys.readouterr().out
        table.broker("gone")
        line = capsys.readouterr().out
    last = capsys.readouterr().out

    rows = first.splitlines()[-6:]
    assert rows[0].endswith("joint: 2 waiting, 3 trial")
    assert rows[1:] == [
        *(f"{name}  trial" for name in NAMES[:3]),
        *(f"{name}  waiting, offline" for name in NAMES[3:]),
    ]
    assert line.startswith("\x1b[6F\x1b[J")
    assert line.endswith("broker: gone\n")
    assert last.startswith("\x1b[J")
