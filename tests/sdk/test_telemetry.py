"""The device is silent: traced from outside, because a hook inside misses what a child does."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from tiny_bundle import TinyBundle

TRACED: Final = "connect,sendto,sendmsg,sendmmsg,execve"
_INET: Final = re.compile(
    r"sa_family=AF_INET6?\b.*?inet_(?:addr|pton)\((?:AF_INET6, )?\"([^\"]+)\""
)

INSPECT: Final = """
import sys, lineside
bundle, trust, frame = sys.argv[1:]
for engine in ("openvino", "onnxruntime"):
    with lineside.load(bundle, trust=trust, engine=engine, threads=1) as inspector:
        print(inspector.inspect(lineside.read_frame(frame)).evaluation.name)
"""
QUANTISE: Final = """
from lineside.engines import silence_telemetry
silence_telemetry()
import nncf, onnxruntime, openvino
print("imported", nncf.__version__, onnxruntime.__version__, openvino.__version__)
"""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a process and its children asked of the kernel."""

    printed: str
    contacted: tuple[str, ...]
    started: tuple[str, ...]
    left_in_home: tuple[str, ...]


def trace(program: str, *arguments: str, home: Path) -> Trace:
    home.mkdir()
    log = home.parent / f"{home.name}.strace"
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("XDG_", "LINESIDE_", "ORT_", "CI")) and key != "HOME"
    }
    done = subprocess.run(
        [
            *("strace", "-f", "--seccomp-bpf", "-s", "256", "-e", f"trace={TRACED}"),
            *("-o", str(log), sys.executable, "-c", program, *arguments),
        ],
        env=environment | {"HOME": str(home), "LINESIDE_CACHE": str(home.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    assert any("execve(" in line for line in lines), "strace saw nothing"
    return Trace(
        printed=done.stdout,
        contacted=tuple(found[1] for line in lines if (found := _INET.search(line))),
        started=tuple(
            line.split('"')[1] for line in lines if "execve(" in line and line.endswith("= 0")
        )[1:],
        left_in_home=tuple(str(path.relative_to(home)) for path in sorted(home.rglob("*"))),
    )


@pytest.fixture
def local_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_trace_would_notice_a_call_even_from_a_grandchild(
    tmp_path: Path, local_port: int
) -> None:
    program = (
        "import os, pathlib, socket, subprocess, sys\n"
        "call = f\"import socket; socket.create_connection(('127.0.0.1', {sys.argv[1]}))\"\n"
        "if os.fork() == 0:\n"
        "    subprocess.run([sys.executable, '-c', call], check=True)\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "pathlib.Path('~/left').expanduser().touch()\n"
    )

    seen = trace(program, str(local_port), home=tmp_path / "home")

    assert seen.contacted == ("127.0.0.1",)
    assert [Path(name).name for name in seen.started] == [Path(sys.executable).name]
    assert seen.left_in_home == ("left",)


def test_inspecting_with_either_engine_contacts_nobody_and_leaves_nothing(
    tmp_path: Path, tiny_bundle: TinyBundle
) -> None:
    seen = trace(
        INSPECT,
        *map(str, (tiny_bundle.path, tiny_bundle.public_key_path, tiny_bundle.frames[0])),
        home=tmp_path / "home",
    )

    assert seen.printed.split() == ["OK", "OK"]
    assert seen.contacted == ()
    assert seen.started == ()
    assert seen.left_in_home == ()


def test_the_exporter_s_vendors_are_silent_after_silencing(tmp_path: Path) -> None:
    seen = trace(QUANTISE, home=tmp_path / "home")

    assert seen.printed.startswith("imported")
    assert seen.contacted == ()
    assert [path for path in seen.left_in_home if re.search("(?i)intel|microsoft", path)] == []


def test_silencing_again_changes_nothing_and_children_inherit_it() -> None:
    program = (
        "from lineside.engines import silence_telemetry\n"
        "silence_telemetry(); import openvino; silence_telemetry()\n"
        "import subprocess, sys\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "child = 'import os; print(os.environ[\"ORT_DISABLE_TELEMETRY\"])'\n"
        "subprocess.run([sys.executable, '-c', child], check=True)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize("package", ["lineside", "lineside_export", "lineside_trainer"])
def test_no_module_imports_a_vendor_before_it_can_be_silenced(package: str) -> None:
    """At the top of a module an import runs before anybody can have called anything."""
    sources = Path(__file__).parents[2].glob(f"*/{package}/**/*.py")
    at_the_top = re.compile(r"^(?:import|from) (?:openvino|nncf|onnxruntime)\b", re.MULTILINE)
    files = list(sources)
    assert files
    assert [file for file in files if at_the_top.search(file.read_text(encoding="utf-8"))] == []
