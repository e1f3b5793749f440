"""A run that is killed, wherever it is, goes on to the very bytes of one that was not."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np
import pytest
from forked import end, killed_at_the_end, lineside, wait_until

from lineside_trainer.durable import read_weights

KILLS = 4
CLOCKS = {"seconds", "images_per_s"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("killed")
    generator = np.random.default_rng(0)
    lines = ["file,damage"]
    for number in range(30):
        level = generator.uniform(20, 200)
        pixels = np.clip(generator.normal(level, 30, (16, 16)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
        lines.append(f"{number}.png,{level / 100}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    config = folder / "experiment.toml"
    fit = "epochs = 3\nbatch_size = 8\nema = 0.9\n"
    config.write_text(
        "[run]\ncheckpoint_every_steps = 1\n[data]\nimage_size_hw = [16, 16]\n"
        f"[train]\nhead_width = 16\ntarget = 'damage'\ndrop_path = 0.1\n[train.fit]\n{fit}"
        f"[pretrain.fit]\n{fit}[pretrain.mae]\ndecoder_depth = 1\ndecoder_width = 12\n"
    )
    return ["--data", str(folder), "--config", str(config), "--device", "cpu"]


@pytest.fixture(scope="module")
def wholes(base: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody killed, by verb."""
    folder = tmp_path_factory.mktemp("whole")
    for verb in ("pretrain", "train"):
        assert end(lineside(verb, *base, "--out", folder / verb)) == 0
    return {verb: folder / verb for verb in ("pretrain", "train")}


def what_was_learnt(out: Path) -> dict[str, object]:
    """All of it but what clocks said."""
    rows = csv.DictReader((out / "metrics.csv").open())
    result = json.loads((out / "result.json").read_text())
    predictions = out / "predictions.csv"
    return {
        "weights": {n: t.numpy().tobytes() for n, t in read_weights(out / "best.pt").items()},
        "epochs": [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows],
        "validation": result["run"]["validation"],
        "test": result.get("test"),
        "predictions": predictions.read_text() if predictions.exists() else "",
        "files": {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()},
    }


@pytest.mark.parametrize("verb", ["pretrain", "train"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    verb: str, base: list[str], wholes: dict[str, Path], tmp_path: Path
) -> None:
    """Reading, in a step, in a checkpoint, judging, reporting: wherever the kill comes."""
    out = tmp_path / "killed"
    moments = random.Random(verb)
    kills = 0
    while not (out / "result.json").exists():
        process = lineside(verb, *base, "--out", out, "--resume")
        with killed_at_the_end([process]):
            if kills < KILLS:
                see_changes(out, moments.randint(1, 8), process)
                time.sleep(moments.uniform(0.0, 0.05))
            else:
                process.join()
            kills += process.exitcode is None
        assert process.exitcode in (0, -signal.SIGKILL)
    assert kills >= 2
    assert what_was_learnt(out) == what_was_learnt(wholes[verb])


def see_changes(out: Path, count: int, process: BaseProcess) -> None:
    """Look on until so many files were made, changed or taken away, or until it is done."""
    seen = {state(out)}

    def enough() -> bool:
        seen.add(state(out))
        return len(seen) > count or process.exitcode is not None

    wait_until(enough)


def state(out: Path) -> frozenset[tuple[str, int]]:
    found = set()
    for path in out.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed in this very moment
            found.add((path.name, path.stat().st_mtime_ns))
    return frozenset(found)


def test_killed_while_it_writes_a_checkpoint_it_keeps_the_one_before(
    base: list[str], wholes: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = lineside("pretrain", *base, "--out", out)
    with killed_at_the_end([process]):
        wait_until((out / "last.ckpt").exists)
        wait_until(lambda: list(out.glob(".last.ckpt.*.part")))
    assert list(out.glob(".last.ckpt.*.part"))
    assert end(lineside("pretrain", *base, "--out", out, "--resume")) == 0
    assert not list(out.rglob("*.part"))
    assert what_was_learnt(out) == what_was_learnt(wholes["pretrain"])
