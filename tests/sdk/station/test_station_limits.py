"""A station whose limits are not the sealed ones: what decides, what the line hears, what stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest
from bundle_vectors import VECTOR
from command_line import call, refuse, succeed
from mosquitto_broker import Mosquitto
from tiny_bundle import TinyBundle, tiny_frame

from lineside.bundle import (
    PrivateKey,
    load_private_key,
    load_public_key,
    open_bundle,
    revoke_key,
    seal_override,
    write_key_pair,
)
from lineside.errors import OverrideError
from lineside.mqtt import StateMessage, decode_state, decode_verdict
from lineside.verdict import Evaluation

STATION = """
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "{bundle}"
trust = ["trust"]
engine = "onnxruntime"
threads = 1
[limits]
{limits}
[source]
kind = "folder"
path = "frames"
settle_ms = 0
poll_ms = 10
[mqtt]
url = "{url}"
"""
ORDER = ("--reason", "lot 17 is darker", "--by", "J. Doe", "--date", "2026-11-21")


@pytest.fixture
def write_station(tmp_path: Path, tiny_bundle: TinyBundle) -> Callable[..., Path]:
    """Beside two frames, one dark (scores 0.2) and one bright (0.8); sealed are 0.5 and 0.6."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "tiny.pub").write_bytes(tiny_bundle.public_key_path.read_bytes())
    (tmp_path / "frames").mkdir()
    for name, bright in (("dark", False), ("light", True)):
        image = tiny_frame(bright=bright, seed=7)
        assert cv2.imwrite(str(tmp_path / "frames" / f"{name}.png"), image)

    def write(limits: str, url: str = "mqtt://127.0.0.1:1") -> Path:
        file = tmp_path / "station.toml"
        text = STATION.format(bundle=tiny_bundle.path, limits=limits, url=url)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def run(station: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from lineside.cli.main import main; main()", "run", station],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={key: value for key, value in os.environ.items() if key != "LINESIDE_TRUST"},
    )


def allow(tiny: TinyBundle, out: Path, *limits: object) -> None:
    words = ("--key", tiny.private_key_path, "--trust", tiny.public_key_path, "--out", out)
    succeed("bundle", "override", tiny.path, *limits, *ORDER, *words)


def heard(ear: Any) -> tuple[dict[str, tuple[Evaluation, float | None]], list[StateMessage]]:
    verdicts = [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]
    states = [decode_state(data, source="ear") for data in ear.payloads("state")]
    return {one.part: (one.evaluation, one.limit) for one in verdicts}, states


def test_the_sealed_limits_apply_where_nothing_is_said(
    broker: Mosquitto, ear: Any, write_station: Callable[..., Path]
) -> None:
    done = run(write_station("", broker.url))
    assert done.returncode == 0, done.stderr
    assert "limits:" not in done.stderr
    verdicts, states = heard(ear)
    assert verdicts == {"dark": (Evaluation.OK, 0.5), "light": (Evaluation.NOT_OK, 0.6)}
    assert {state.limits for state in states} == {"sealed"}


def test_a_tightened_limit_changes_the_verdict_and_the_line_hears_why(
    broker: Mosquitto, ear: Any, write_station: Callable[..., Path]
) -> None:
    done = run(write_station("ok = 0.1\nnot_ok = 0.15", broker.url))
    assert done.returncode == 0, done.stderr
    assert "lineside: limits: ok_limit 0.1 K/W instead of the sealed 0.5 K/W\n" in done.stderr
    assert "lineside: limits: not_ok_limit 0.15 K/W instead" in done.stderr
    verdicts, states = heard(ear)
    assert verdicts == {"dark": (Evaluation.NOT_OK, 0.15), "light": (Evaluation.NOT_OK, 0.15)}
    for state in states:  # birth, and goodbye
        assert (state.limits, state.unit) == ("tightened", "K/W")
        assert (state.ok, state.not_ok) == (0.1, 0.15)
        assert (state.sealed_ok, state.sealed_not_ok) == (0.5, 0.6)
        assert (state.limits_by, state.limits_why, state.limits_key) == ("", "", "")
    told = call("listen", broker.url, "--timeout-s", "1").output
    assert "plant1/line3/aoi1 is offline (stopped), given 2, queue 0, limits tightened\n" in told


def test_a_signed_override_lets_more_pass_and_the_line_hears_who_allowed_it(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    write_station: Callable[..., Path],
    tiny_bundle: TinyBundle,
) -> None:
    allow(tiny_bundle, tmp_path / "tiny.override", "--ok", 0.9, "--not-ok", 0.95)
    done = run(write_station('override = "tiny.override"', broker.url))
    assert done.returncode == 0, done.stderr
    key_id = tiny_bundle.key().public.key_id.hex()
    assert f"override by J. Doe, 2026-11-21, signed by key {key_id}: lot 17" in done.stderr
    verdicts, states = heard(ear)
    assert verdicts == {"dark": (Evaluation.OK, 0.9), "light": (Evaluation.OK, 0.9)}
    assert {state.limits for state in states} == {"override"}
    assert (states[0].ok, states[0].sealed_ok) == (0.9, 0.5)
    told = (states[0].limits_by, states[0].limits_why, states[0].limits_key)
    assert told == ("J. Doe", "lot 17 is darker", key_id)


def test_a_looser_limit_stops_the_start(write_station: Callable[..., Path]) -> None:
    station = write_station("ok = 0.55")
    done = run(station)
    assert done.returncode == 4
    assert f"{station}: limits.ok: ok_limit 0.55 raises the sealed 0.5" in done.stderr
    assert "lineside bundle override" in done.stderr
    assert "Traceback" not in done.stderr


def spoil_nothing_there(file: Path, tiny: TinyBundle) -> None:
    file.unlink()


def spoil_a_bit(file: Path, tiny: TinyBundle) -> None:
    data = bytearray(file.read_bytes())
    data[-10] ^= 1
    file.write_bytes(data)


def spoil_the_end(file: Path, tiny: TinyBundle) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def sign_anew(file: Path, tiny: TinyBundle, path: Path, key: PrivateKey) -> None:
    with open_bundle(path, trust=tiny.public_key_path) as bundle:
        rule = bundle.manifest.rule
        told = {"reason": "x", "by": "y", "date": "2026-11-21"}
        seal_override(file, bundle=bundle, rule=rule, key=key, **told)


def spoil_the_key(file: Path, tiny: TinyBundle) -> None:
    sign_anew(file, tiny, tiny.path, VECTOR.STRANGER)


def spoil_the_trust(file: Path, tiny: TinyBundle) -> None:
    trust = file.parent / "trust"
    private, _ = write_key_pair(trust, "second")
    sign_anew(file, tiny, tiny.path, load_private_key(private))
    revoke_key(trust, load_public_key(trust / "second.pub"))


def spoil_the_bundle(file: Path, tiny: TinyBundle) -> None:
    manifest = msgspec.structs.replace(tiny.manifest, licence="MIT")
    other = tiny.reseal(file.with_name("other.lsb"), manifest=manifest)
    sign_anew(file, tiny, other, tiny.key())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_nothing_there, "No such file"),
        (spoil_a_bit, "does not hold"),
        (spoil_the_end, "copy it again"),
        (spoil_the_key, "is not trusted here"),
        (spoil_the_trust, "was revoked on this machine"),
        (spoil_the_bundle, "it is for the bundle with the hash"),
    ],
)
def test_an_override_that_is_refused_stops_the_start(
    tmp_path: Path,
    write_station: Callable[..., Path],
    tiny_bundle: TinyBundle,
    spoil: Callable[[Path, TinyBundle], None],
    words: str,
) -> None:
    file = tmp_path / "tiny.override"
    allow(tiny_bundle, file, "--ok", 0.9, "--not-ok", 0.95)
    station = write_station('override = "tiny.override"')
    spoil(file, tiny_bundle)
    told = refuse(OverrideError, "run", station)
    assert told.startswith(f"{file}: ")
    assert words in told
    checked = json.loads(call("doctor", "--station", station, "--json").output)
    [limits] = [check for check in checked if check["topic"] == "limits"]
    assert (limits["state"], words in limits["found"]) == ("missing", True)


def test_the_doctor_says_what_applies(
    write_station: Callable[..., Path], tiny_bundle: TinyBundle
) -> None:
    for limits, state, words in (
        ("", "ok", "as sealed"),
        ("ok = 0.3", "ok", "ok_limit 0.3 K/W instead of the sealed 0.5 K/W"),
        ("ok = 0.55", "missing", "0.55 raises the sealed 0.5"),
    ):
        checked = json.loads(call("doctor", "--station", write_station(limits), "--json").output)
        [found] = [check for check in checked if check["topic"] == "limits"]
        assert (found["state"], words in found["found"]) == (state, True)
