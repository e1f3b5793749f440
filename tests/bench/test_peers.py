"""`lineside measure peers`: real processes that take turns, on a small bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bundle import TinyBundle

from lineside_bench.peers.command import peers
from lineside_bench.peers.figures import targets
from lineside_bench.peers.roster import PEERS, RUNNERS, Peer
from lineside_bench.peers.runners.serve import Job
from lineside_bench.peers.running import PeerFault, Runner
from lineside_bench.peers.turning import Row, measure_in_turns
from lineside_bench.peers.venvs import Place, find_present, make_place
from lineside_bench.suite import KEY_FILE, LIST_FILE, Sealed, encode_list

HERE = Place(python=Path(sys.executable), own=False)


@pytest.fixture
def suite(tmp_path: Path, tiny_bundle: TinyBundle) -> Path:
    """Float alone is sealed, and offered as eight bits too."""
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / KEY_FILE).write_bytes(tiny_bundle.public_key_path.read_bytes())
    (folder / "tiny.lsb").write_bytes(tiny_bundle.path.read_bytes())
    sealed = [
        Sealed(model="vit_tiny", kind="regression", side_px=32, form=form, file="tiny.lsb")
        for form in ("fp32", "int8")
    ]
    (folder / LIST_FILE).write_bytes(encode_list(sealed))
    return folder


def test_ways_take_turns_and_who_cannot_is_named(suite: Path, tmp_path: Path) -> None:
    words = [str(suite), "--quick", "--only", "ONNX Runtime", "--threads", "1", "--json"]
    result = CliRunner().invoke(peers, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads((tmp_path / "out" / "peers.json").read_text("utf-8"))
    assert json.loads(result.stdout) == found
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {
        "ONNX Runtime fp32, threads 1",
        "ONNX Runtime int8, threads 1",
        "Lineside, ONNX Runtime inspect fp32, threads 1",
        "Lineside, ONNX Runtime infer fp32, threads 1",
    }
    for row in rows.values():
        assert 0 < row["latency"]["p50_us"] <= row["latency"]["p99_us"]
        assert row["start"]["whole_ms"] > 0 and row["resident_bytes"] > 10e6
    # The sealed model has no int8, and says so; there is no torch eager to be held against.
    assert "The bundle offers" in found["left_out"]["Lineside, ONNX Runtime, int8"]
    assert found["targets"] == [] and found["values"] == []
    assert (tmp_path / "out" / "peers.png").read_bytes().startswith(b"\x89PNG")


def runner_of(folder: Path, source: str) -> Job:
    """A job of a runner with this ``open_peer``."""
    (folder / "runner.py").write_text(source, "utf-8")
    np.save(folder / "images.npy", np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1))
    return Job(
        runner=str(folder / "runner.py"),
        images=str(folder / "images.npy"),
        model="",
        engine="",
        form="fp32",
        arithmetic="",
        pinned=True,
        key="",
        threads=None,
    )


def test_what_a_vendor_prints_is_no_answer(tmp_path: Path) -> None:
    source = (
        "import os, time\n"
        "print('a banner')\n"
        "def open_peer(job):\n"
        "    def call(image):\n"
        "        os.system('echo from below')\n"
        "        return image.sum() / 2\n"
        "    return {'call': call, 'rest': lambda image: time.sleep(0.002) or 7}, 'version 1'\n"
    )
    with Runner(HERE, runner_of(tmp_path, source), tmp_path / "process") as runner:
        assert runner.told == "version 1"
        assert runner.values() == {"call": [0.0, 0.5, 1.0], "rest": [7.0, 7.0, 7.0]}
        taken_us = runner.turn("rest", 5, 2, 4)
        assert taken_us.shape == (4,) and taken_us.min() >= 2000
        resident, peak = runner.memory()
        assert 0 < resident <= peak


def test_a_peer_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    with pytest.raises(PeerFault, match="ValueError: cannot be loaded"):
        Runner(
            HERE,
            runner_of(tmp_path, "raise ValueError('cannot be loaded\\nmore words')\n"),
            tmp_path / "at-once",
        )
    later = (
        "import os\n"
        "calls = []\n"
        "def open_peer(job):\n"
        "    def call(image):\n"
        "        calls.append(1)\n"
        "        return 1.0 if len(calls) < 9 else os._exit(3)\n"
        "    return {'call': call, 'lasts': lambda image: 2.0}, ''\n"
    )
    job = runner_of(tmp_path, later)
    with (
        Runner(HERE, job, tmp_path / "dies") as dying,
        Runner(HERE, job, tmp_path / "lives") as living,
    ):
        rows = [row_of("dies", runner=dying), row_of("lives", way="lasts", runner=living)]
        taken, ended = measure_in_turns(rows, rounds=4, settle=1, calls=3)
    assert list(taken) == [rows[1].name] and taken[rows[1].name].shape == (4, 3)
    assert "its process ended" in ended[rows[0].name]


def row_of(
    name: str,
    *,
    form: str = "fp32",
    threads: int | None = None,
    way: str = "call",
    runner: Runner | None = None,
) -> Row:
    """Without a runner nobody may ask its process."""
    peer = Peer(name=name, runner="", needs=(), installs=(), opens="own")
    asked = cast(Runner, runner)
    return Row(peer=peer, form=form, threads=threads, way=way, runner=asked, values=[1.0])


def test_target_takes_the_best_engine_with_equal_threads_and_best_to_best() -> None:
    taken_us = {
        row_of("torch eager", threads=2): 12000.0,
        row_of("torch eager"): 8000.0,
        row_of("Lineside, A", form="int8", threads=2, way="inspect"): 4000.0,
        row_of("Lineside, B", form="int8", threads=2, way="inspect"): 2500.0,
        row_of("Lineside, B", form="int8", threads=2, way="infer"): 1000.0,
        row_of("Lineside, B", threads=2, way="inspect"): 100.0,
    }
    taken = {row.name: np.full((5, 3), value) for row, value in taken_us.items()}
    equal, best = targets(list(taken_us), taken, threads=2)
    assert equal["found"]["p50"] == pytest.approx(4.8) and equal["met"]
    assert best["found"]["p50"] == pytest.approx(3.2) and not best["met"]


def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    peer = Peer(name="x", runner="", needs=("no_such_module",), installs=("x",), opens="own")
    told = find_present(peer)
    assert isinstance(told, str) and "no_such_module" in told
    told = make_place(peer, tmp_path, timeout_s=0.01)
    assert told == "not installed within 0 s"


def test_every_peer_has_its_runner() -> None:
    named = {peer.runner for peer in PEERS} | {peer.prepare for peer in PEERS if peer.prepare}
    there = {path.name for path in RUNNERS.glob("*.py")} - {"__init__.py", "serve.py"}
    there.remove("lightly_loop.py")  # of `measure training`
    assert named == there
