"""An environment of its own for each peer, made with plain pip as its documentation advises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Final

import click

from lineside.durable import write_durably
from lineside_bench.peers.roster import Peer

_MARK: Final = "lineside-peer.json"
_INSTALLERS: Final = ("pip", "setuptools", "wheel")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a peer runs.

    Attributes:
        python: its interpreter.
        own: an environment of the peer's own, of which the next two tell; else the present one.
        distributions: that were installed, pip and setuptools not counted.
        installed_bytes: of their files.
    """

    python: Path
    own: bool
    distributions: int | None = None
    installed_bytes: int | None = None


def find_present(peer: Peer) -> Place | str:
    """The present environment, or what it lacks."""
    found = {name: find_spec(name) for name in peer.needs}
    # A folder of that name is a module without an origin.
    lacking = [name for name, spec in found.items() if spec is None or spec.origin is None]
    if lacking:
        return f"not in this environment: {', '.join(lacking)}; leave --quick out"
    return Place(python=Path(sys.executable), own=False)


def make_place(peer: Peer, work: Path, timeout_s: float) -> Place | str:
    """Its environment, made where it is not there yet; or why there is none.

    Args:
        peer: what to install.
        work: folder of all environments.
        timeout_s: for pip.
    """
    if not peer.installs:
        return find_present(peer)
    folder = work / (peer.environment or peer.name).lower().replace(" ", "-").replace(",", "")
    mark = json.dumps(peer.installs).encode("utf-8")
    if not (folder / _MARK).exists() or (folder / _MARK).read_bytes() != mark:
        fault = _make(folder, peer.installs, timeout_s)
        if fault:
            return fault
        write_durably(folder / _MARK, [mark])
    return _measure(folder)


def _make(folder: Path, installs: Sequence[str], timeout_s: float) -> str:
    click.echo(f"{folder.name}: pip install {' '.join(installs)}", err=True)
    until = monotonic() + timeout_s
    wanted = [*_cpu_torch(installs), *installs]
    for words in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted],
    ):
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                timeout=max(1.0, until - monotonic()),
                env=_clean_environment(),
            )
        except subprocess.TimeoutExpired:
            return f"not installed within {timeout_s:.0f} s"
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return f"not installed: {(errors or done.stderr.splitlines() or ['?'])[-1][:200]}"
    return ""


def _clean_environment() -> dict[str, str]:
    """Of this process, without what would lead a peer's interpreter to our modules."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def quiet_environment(place: Place, folder: Path) -> dict[str, str]:
    """For a peer's process: nothing is downloaded, reported, or left in anybody's home.

    Args:
        place: where it runs.
        folder: its working folder.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    kept = _clean_environment() if place.own else dict(os.environ)
    # Our command line sets it; whoever calls torch in a program of his own has threads that spin.
    kept.pop("OMP_WAIT_POLICY", None)
    return kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "LINESIDE_CACHE": str(home / "lineside"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder.parent / "inductor"),
        "YOLO_CONFIG_DIR": str(home),
        "YOLO_OFFLINE": "True",
        "HF_HUB_OFFLINE": "1",
    }


def _cpu_torch(installs: Sequence[str]) -> list[str]:
    """The CPU build of the newest torch, where the index has one: a fraction of the size."""
    if "torch" not in installs:
        return []
    words = [sys.executable, "-m", "pip", "index", "versions", "torch"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    listed = [line for line in told.splitlines() if line.startswith("Available versions:")]
    versions = listed[0].split(":")[1].replace(" ", "").split(",") if listed else []
    newest = versions[0].split("+")[0] if versions else ""
    return [f"torch=={newest}+cpu"] if f"{newest}+cpu" in versions else []


def _measure(folder: Path) -> Place:
    (site,) = (folder / "lib").glob("python*/site-packages")
    found = [path for path in site.glob("*.dist-info") if not path.name.startswith(_INSTALLERS)]
    size = sum(
        path.lstat().st_size
        for path in site.rglob("*")
        if path.is_file() and not path.relative_to(site).parts[0].startswith(_INSTALLERS)
    )
    return Place(
        python=folder / "bin" / "python",
        own=True,
        distributions=len(found),
        installed_bytes=size,
    )
