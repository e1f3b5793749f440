"""A station opens no socket but the configured ones: traced from outside, its children included."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from mosquitto_broker import Mosquitto, free_port
from tiny_bundle import TinyBundle

from lineside.mqtt import decode_verdict

RUN: Final = "from lineside.cli.main import main; main()"
_INET: Final = re.compile(r"sin6?_port=htons\((\d+)\).*?\"([^\"]+)\"")
_UNIX: Final = re.compile(r"sun_path=(@?\"[^\"]*\")")


@dataclass(kw_only=True)
class Sockets:
    """What a process and its children asked of the kernel.

    Attributes:
        made: domain and type of each socket, e.g. ``AF_INET SOCK_STREAM``.
        reached: where to: ``host:port``, or a path; of connect and of datagrams.
        bound: where bound, the same way.
        calls: by name.
    """

    made: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)


def read_trace(text: str) -> Sockets:
    """Sort the lines of ``strace -f -e trace=network``; an address of another family is named too.

    A call that another process's line cuts in two stands in the first half with its address.
    """
    found = Sockets()
    for line in text.splitlines():
        match = re.search(r"\b(socket|connect|bind|listen|send\w+|recv\w+|accept4?)\((.*)", line)
        if match is None:
            continue
        call, rest = match[1], match[2]
        found.calls.add(call)
        if call == "socket":
            domain, kind, *_ = rest.split(", ")
            found.made.add(f"{domain} {kind.split('|')[0]}")
        elif call in ("connect", "bind") or (call.startswith("send") and "sa_family" in rest):
            places = found.bound if call == "bind" else found.reached
            # Port 0 is what paho binds its way to the broker to: no place that anybody could reach.
            if not (call == "bind" and "htons(0)" in rest):
                places.add(_place(rest))
    return found


def _place(arguments: str) -> str:
    if inet := _INET.search(arguments):
        return f"{inet[2]}:{inet[1]}"
    if unix := _UNIX.search(arguments):
        return unix[1].replace('"', "")
    return arguments


@pytest.fixture
def write_station(
    tmp_path: Path, tiny_bundle: TinyBundle, broker: Mosquitto
) -> Callable[..., Path]:
    def write(more: str = "", *, watch: bool = False) -> Path:
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
engine = "openvino"
threads = 1
[source]
kind = "folder"
path = "{tiny_bundle.frames[0].parent}"
settle_ms = 0
watch = {str(watch).lower()}
[mqtt]
url = "{broker.url}"
{more}
""",
            encoding="utf-8",
        )
        return file

    return write


@pytest.fixture
def strace(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *words: str, **more: str) -> subprocess.Popen[str]:
        home = tmp_path / "home"
        home.mkdir()
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("XDG_", "ORT_", "CI", "NOTIFY_", "WATCHDOG_"))
        }
        started.append(
            subprocess.Popen(
                [
                    *("strace", "-f", "--seccomp-bpf", "-e", "trace=network"),
                    *("-o", str(tmp_path / "trace"), sys.executable, "-c", program, *words),
                ],
                env={**kept, "HOME": str(home), **more},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def seen(tmp_path: Path) -> Sockets:
    return read_trace((tmp_path / "trace").read_text(encoding="utf-8", errors="replace"))


def test_a_run_reaches_its_broker_and_nobody_else(
    tmp_path: Path,
    tiny_bundle: TinyBundle,
    broker: Mosquitto,
    ear: Any,
    write_station: Callable[..., Path],
    strace: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    process = strace(RUN, "run", str(write_station()))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    wait_until(lambda: len(ear.payloads("verdict")) == len(tiny_bundle.frames))
    assert decode_verdict(ear.payloads("verdict")[0], source="ear").reason == "within_limit"

    sockets = seen(tmp_path)
    assert sockets.reached == {f"127.0.0.1:{broker.port}"}
    assert sockets.made == {"AF_INET SOCK_STREAM"}
    assert sockets.bound == set()
    assert "listen" not in sockets.calls
    assert list((tmp_path / "home").rglob("*")) == []


def test_with_page_and_systemd_there_are_these_two_more(
    tmp_path: Path,
    broker: Mosquitto,
    write_station: Callable[..., Path],
    strace: Callable[..., subprocess.Popen[str]],
) -> None:
    port, notify = free_port(), tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        systemd.settimeout(120)
        file = write_station(f'[health]\nprometheus = "127.0.0.1:{port}"', watch=True)
        process = strace(RUN, "run", str(file), NOTIFY_SOCKET=str(notify))
        assert systemd.recv(100).startswith(b"READY=1")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            assert b"lineside_station_info" in response.read()
        traced = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        os.kill(int(traced.split()[0]), signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert systemd.recv(100).startswith(b"STOPPING=1")

    sockets = seen(tmp_path)
    assert sockets.reached == {f"127.0.0.1:{broker.port}", str(notify)}
    assert sockets.bound == {f"127.0.0.1:{port}"}
    assert sockets.made == {"AF_INET SOCK_STREAM", "AF_UNIX SOCK_DGRAM"}
    assert "listen" in sockets.calls


def test_the_trace_notices_every_other_way_out(
    tmp_path: Path, strace: Callable[..., subprocess.Popen[str]]
) -> None:
    program = """
import os, socket
if os.fork() == 0:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.sendto(b"x", ("127.0.0.1", 9))
    one.sendmsg([b"x"], [], 0, ("127.0.0.2", 9))
    other = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    other.connect_ex(("::1", 9))
    third = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    third.bind("\\0lineside-silence")
    third.connect_ex("/nowhere")
    os._exit(0)
os.wait()
"""
    process = strace(program)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    sockets = seen(tmp_path)
    assert sockets.reached == {"127.0.0.1:9", "127.0.0.2:9", "::1:9", "/nowhere"}
    assert sockets.bound == {"@lineside-silence"}
    assert sockets.made == {
        "AF_INET SOCK_DGRAM",
        "AF_INET6 SOCK_STREAM",
        "AF_UNIX SOCK_DGRAM",
    }
