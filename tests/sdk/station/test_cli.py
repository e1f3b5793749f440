"""`lineside run` and `lineside listen` as people start them: processes, signals, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest
from mosquitto_broker import Mosquitto, free_port
from tiny_bundle import TinyBundle, tiny_frame

from lineside.mqtt import StateWord, decode_state, decode_verdict

COMMAND = [sys.executable, "-c", "from lineside.cli.main import main; main()"]


@pytest.fixture
def lineside_command() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        # Unbuffered, so that a test sees each line when it is written.
        started.append(
            subprocess.Popen(
                [*COMMAND, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def write_station(tmp_path: Path, tiny_bundle: TinyBundle) -> Callable[..., Path]:
    def write(url: str, *, watch: bool = False, mqtt: str = "", source: str = "") -> Path:
        file = tmp_path / "station.toml"
        file.write_text(
            f"""
[station]
site = "plant1"
line = "line3"
name = "aoi1"
[bundle]
path = "{tiny_bundle.path}"
trust = ["{tiny_bundle.public_key_path}"]
engine = "onnxruntime"
threads = 1
[source]
kind = "folder"
path = "frames"
settle_ms = 0
poll_ms = 10
watch = {"true" if watch else "false"}
{source}
[mqtt]
url = "{url}"
reconnect_min_s = 0.05
{mqtt}
""",
            encoding="utf-8",
        )
        return file

    return write


def write_tiny_frames(folder: Path, count: int) -> list[str]:
    """Dark and bright by turns, as the tiny bundle's own; OK and NOT_OK."""
    folder.mkdir()
    for number in range(count):
        image = tiny_frame(bright=number % 2 == 1, seed=number)
        assert cv2.imwrite(str(folder / f"part-{number:04d}.png"), image)
    return [f"part-{number:04d}" for number in range(count)]


def finish(process: subprocess.Popen[str], timeout_s: float = 40) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def test_run_says_each_product_and_why_parts_were_not_decided(
    tmp_path: Path,
    broker: Mosquitto,
    tiny_bundle: TinyBundle,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    write_tiny_frames(tmp_path / "frames", 3)
    (tmp_path / "frames" / "part-0001.png").write_bytes(b"damaged on the way")
    manifest = tiny_bundle.manifest
    other = msgspec.structs.replace(
        manifest,
        identity=msgspec.structs.replace(manifest.identity, product="diode"),
        contract=msgspec.structs.replace(manifest.contract, product="diode"),
    )
    second = tiny_bundle.reseal(tmp_path / "diode.lsb", manifest=other)
    file = write_station(broker.url)
    first = file.read_text("utf-8").replace("[bundle]", "[[bundle]]")
    trust = f'trust = ["{tiny_bundle.public_key_path}"]'
    file.write_text(f'{first}[[bundle]]\npath = "{second}"\n{trust}\nengine = "onnxruntime"\n')
    code, out, err = finish(lineside_command("run", str(file)))
    assert code == 0, err
    assert "lineside: also diode 1.0.0 by onnxruntime/fp32\n" in err
    assert re.search(r"^frame_decode +1$", out, re.MULTILINE), out


def test_run_and_listen_agree(
    tmp_path: Path,
    broker: Mosquitto,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    parts = write_tiny_frames(tmp_path / "frames", 20)
    (tmp_path / "frames" / "part-0004.png").write_bytes(b"damaged on the way")
    listener = lineside_command(
        *("listen", broker.url, "--count", "20", "--timeout-s", "30", "--json", "--site", "plant1")
    )
    table = lineside_command("listen", broker.url, "--count", "20", "--timeout-s", "30")
    # A verdict is not kept for who comes later.
    wait_until(lambda: broker.log().count("Sending SUBACK to lineside-listen-") == 2)
    code, out, err = finish(lineside_command("run", str(write_station(broker.url)), "--json"))
    assert code == 0, err
    report = json.loads(out)
    assert report["frames"] == report["acknowledged"] == 20
    assert report["evaluations"] == {"UNDEFINED": 0, "OK": 9, "NOT_OK": 10, "NOT_DECIDABLE": 1}
    assert report["latency_us"]["infer"]["count"] == 19
    code, out, err = finish(listener)
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    heard = [line for line in lines if line["kind"] == "verdict"]
    assert [line["part"] for line in heard] == parts
    assert heard[4]["reason"] == "frame_decode"
    assert [line for line in lines if line["kind"] == "gap"] == []
    code, out, err = finish(table)
    assert code == 0, err
    assert f"listening on {broker.url}" in err
    assert "evaluation" in out.splitlines()[0]
    assert sum("plant1/line3/aoi1" in line and "OK" in line for line in out.splitlines()) == 19
    assert "NOT_DECIDABLE" in out


def test_a_second_run_inspects_only_what_is_new(
    tmp_path: Path,
    broker: Mosquitto,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    write_tiny_frames(tmp_path / "frames", 4)
    station = str(write_station(broker.url))
    code, out, err = finish(lineside_command("run", station))
    assert code == 0, err
    assert "4 frames" in out
    assert "handover" in out
    code, out, err = finish(lineside_command("run", station))
    assert code == 0, err
    assert "0 frames" in out
    assert "4 more were inspected in an earlier run" in out


def test_kill_9_and_restart_judges_every_frame_once_without_a_gap(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    parts = write_tiny_frames(tmp_path / "frames", 900)
    station = str(write_station(broker.url))
    for kill in range(3):
        process = lineside_command("run", station)
        # What was on its way when the last one died comes again, the same bytes.
        before = len(set(ear.payloads("verdict")))
        # Some way into its work, at another moment each time.
        wait_until(
            lambda before=before: len(set(ear.payloads("verdict"))) >= before + 37, timeout_s=30
        )
        time.sleep(0.013 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    code, out, err = finish(lineside_command("run", station, "--json"))
    assert code == 0, err
    messages = [decode_verdict(data, source="ear") for data in ear.payloads("verdict")]
    by_id: dict[str, Any] = {}
    for message in messages:
        assert by_id.setdefault(message.id, message) == message
    kept = sorted(by_id.values(), key=lambda message: message.seq)
    assert [message.seq for message in kept] == list(range(1, 901))
    assert [message.part for message in kept] == parts
    report = json.loads(out)
    assert report["given"] == report["acknowledged"] == 900
    assert report["frames"] < 900 - 3 * 37


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(
    tmp_path: Path,
    broker: Mosquitto,
    ear: Any,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
    number: signal.Signals,
) -> None:
    write_tiny_frames(tmp_path / "frames", 5)
    process = lineside_command("run", str(write_station(broker.url, watch=True)), "--json")
    wait_until(lambda: len(ear.payloads("verdict")) == 5, timeout_s=30)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 0, err
    assert json.loads(out)["stopped"] is True
    last = decode_state(ear.payloads("state")[-1], source="ear")
    assert (last.state, last.reason) == (StateWord.OFFLINE, "stopped")
    assert "Traceback" not in err


def test_a_broker_that_never_answers_is_exit_code_8_and_nothing_is_lost(
    tmp_path: Path,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    write_tiny_frames(tmp_path / "frames", 3)
    station = str(write_station(f"mqtt://127.0.0.1:{free_port()}"))
    code, out, err = finish(lineside_command("run", station, "--drain-timeout-s", "0.3"))
    assert code == 8
    assert "3 verdicts were not acknowledged" in err
    assert "outbox.sqlite" in err
    assert "waiting 3" in out


def test_a_refused_password_is_exit_code_8_and_not_printed(
    tmp_path: Path,
    make_broker: Callable[..., Mosquitto],
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    users = tmp_path / "users"
    users.write_text("", encoding="utf-8")
    broker = make_broker("allow_anonymous false", f"password_file {users}")
    broker.start()
    write_tiny_frames(tmp_path / "frames", 2)
    (tmp_path / "secret").write_text("hunter2-not-for-logs", encoding="utf-8")
    station = write_station(broker.url, mqtt='username = "me"\npassword_file = "secret"')
    code, out, err = finish(lineside_command("run", str(station), "--drain-timeout-s", "0.5"))
    assert code == 8
    assert "uthori" in err
    assert "hunter2" not in out + err
    code, out, err = finish(
        lineside_command(
            *("listen", broker.url, "--username", "me"),
            *("--password-file", str(tmp_path / "secret"), "--timeout-s", "5"),
        )
    )
    assert code == 8
    assert "uthori" in err
    assert "hunter2" not in out + err


def test_wrong_configuration_bundle_and_url_each_have_their_code(
    tmp_path: Path,
    tiny_bundle: TinyBundle,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    (tmp_path / "frames").mkdir()
    station = write_station("mqtt://127.0.0.1:1", source="colour = true")
    code, _, err = finish(lineside_command("run", str(station)))
    assert (code, "source.colour" in err) == (4, True), err
    station = write_station("mqtt://127.0.0.1:1")
    torn = bytearray(tiny_bundle.path.read_bytes())
    torn[200] ^= 1
    (tmp_path / "torn.lsb").write_bytes(torn)
    text = station.read_text(encoding="utf-8").replace(str(tiny_bundle.path), "torn.lsb")
    station.write_text(text, encoding="utf-8")
    code, _, err = finish(lineside_command("run", str(station)))
    assert (code, "Traceback" in err) == (5, False), err
    code, _, err = finish(lineside_command("listen", "http://x"))
    assert (code, "mqtt://HOST" in err) == (4, True), err
    code, _, err = finish(lineside_command("listen", "mqtt://x", "--line", "a/b"))
    assert (code, "--line" in err) == (4, True), err


@pytest.mark.parametrize("shell", ["2> /dev/full", "2>&-"])
def test_a_log_that_cannot_be_written_does_not_end_the_inspection(
    tmp_path: Path, write_station: Callable[..., Path], shell: str
) -> None:
    write_tiny_frames(tmp_path / "frames", 3)
    file = write_station(f"mqtt://127.0.0.1:{free_port()}")  # nobody there: something to tell
    done = subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", *COMMAND, "run", file, "--drain-timeout-s", "1"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 8
    assert "acknowledged 0 of 3 ever given, waiting 3" in done.stdout


@pytest.mark.parametrize(
    "verb", [["run", "x.toml", "--drain-timeout-s"], ["listen", "--timeout-s"]]
)
def test_a_duration_that_is_no_number_is_wrong_use(
    lineside_command: Callable[..., subprocess.Popen[str]], verb: list[str]
) -> None:
    code, _, err = finish(lineside_command(*verb, "nan"))
    assert (code, "nan is no number of seconds" in err) == (2, True)


def test_a_broker_that_is_away_all_the_time_is_not_a_quiet_one(
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    code, _, err = finish(lineside_command("listen", url, "--timeout-s", "0.5"))
    assert (code, err.count(url)) == (8, 2)


def test_a_folder_that_goes_and_returns_is_told(
    tmp_path: Path,
    write_station: Callable[..., Path],
    lineside_command: Callable[..., subprocess.Popen[str]],
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    station = lineside_command("run", str(write_station("mqtt://127.0.0.1:1", watch=True)))
    assert station.stderr is not None
    assert station.stderr.readline().endswith(f"frames from {frames}\n")
    assert "broker:" in station.stderr.readline()  # it runs
    frames.rename(tmp_path / "elsewhere")
    lines = (line for line in station.stderr if "lineside: source:" in line)
    assert f"{frames}: No such file" in next(lines)
    (tmp_path / "elsewhere").rename(frames)
    assert "source: well again" in next(lines)


def test_listen_shows_what_strangers_publish_and_does_not_obey_it(
    broker: Mosquitto,
    lineside_command: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    import paho.mqtt.publish as publish

    listener = lineside_command("listen", broker.url, "--count", "2", "--timeout-s", "20")
    wait_until(lambda: "Sending SUBACK to lineside-listen-" in broker.log())
    verdict = {"v": 1, "seq": 1, "id": "a", "part": "\x1b[2Jwiped\r\n", "t": 10**40, "ev": 77}
    verdict |= {"score": None, "limit": None, "unit": "\x07", "reason": "", "code": 0}
    verdict |= {"model": "0", "exp": -1}
    sent = [
        {"topic": "lineside/v1/a/b/c/verdict", "payload": json.dumps(verdict | change), "qos": 1}
        for change in ({}, {"id": "b", "t": -(10**40), "seq": 2})
    ]
    publish.multiple(sent, hostname="127.0.0.1", port=broker.port)
    code, out, err = finish(listener)
    assert code == 0, err
    assert all(line.isprintable() for line in out.splitlines())
    assert "?[2Jwiped??" in out
    assert "UNDEFINED" in out


def test_listen_says_gaps_and_repeats_nothing(
    broker: Mosquitto,
    lineside_command: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    import paho.mqtt.publish as publish

    listener = lineside_command("listen", broker.url, "--json", "--count", "4", "--timeout-s", "20")
    wait_until(lambda: "Sending SUBACK to lineside-listen-" in broker.log())
    text = (
        '{"v":1,"seq":%d,"id":"0000000000000000%02x","part":"p","t":1,"exp":2,"ev":1,"score":1.0,'
        '"limit":2.0,"unit":"1","reason":"within_limit","code":0,"model":"0"}'
    )
    payloads = [text % (seq, seq) for seq in (1, 2, 2, 5, 1, 3)]
    topic = "lineside/v1/a/b/c/verdict"
    noise = [{"topic": topic, "payload": b"\xff{", "qos": 1}]
    sent = [{"topic": topic, "payload": payload, "qos": 1} for payload in payloads]
    publish.multiple([*noise, *sent], hostname="127.0.0.1", port=broker.port)
    code, out, err = finish(listener)
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    kinds = [(line["kind"], line.get("seq")) for line in lines]
    assert kinds == [
        ("verdict", 1),
        ("verdict", 2),
        ("gap", None),
        ("verdict", 5),
        ("verdict", 3),
    ]
    assert (lines[2]["first"], lines[2]["last"]) == (3, 4)
    assert "no verdict of Lineside" in err


def test_listen_gives_up_after_its_time(
    broker: Mosquitto, lineside_command: Callable[..., subprocess.Popen[str]]
) -> None:
    code, _, err = finish(
        lineside_command("listen", broker.url, "--count", "1", "--timeout-s", "0.5")
    )
    assert (code, "0 of 1 verdicts" in err) == (8, True)
    code, _, _ = finish(lineside_command("listen", broker.url, "--timeout-s", "0.2"))
    assert code == 0
