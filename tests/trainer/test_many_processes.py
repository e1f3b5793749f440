"""Two processes learn what one would; the first alone keeps it; none waits for a dead one."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from forked import (
    end,
    killed_at_the_end,
    lineside,
    lineside_in_two,
    slurm_environment,
    torchrun_environment,
    wait_until,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lineside_trainer.conduct import check_shares
from lineside_trainer.data.draws import SharedGenerator, uniform
from lineside_trainer.errors import DataError, ExperimentError, TrainerError
from lineside_trainer.experiment import Experiment, RunSettings
from lineside_trainer.experiment_file import (
    convert_experiment,
)
from lineside_trainer.learning.fit import check_shareable
from lineside_trainer.learning.launch import supervise
from lineside_trainer.learning.processes import ALONE, Place, find_place, lost_peer
from lineside_trainer.runs.runfolder import claimed_run

IMAGES = 30
BATCH = 6
EPOCHS = 2

LOSS_TOLERANCE = 1e-6
"""Relative. The mean of two means rounds otherwise than one mean over the batch, in fp32 (one part
in 6e-8), and each step's weights carry it on; 7e-8 was seen after 6 steps, 2e-7 after 30."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    lines = ["file,part,damage"]
    for number in range(IMAGES):
        level = generator.uniform(20, 200)
        pixels = np.clip(generator.normal(level, 30, (16, 16)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
        lines.append(f"{number}.png,{number},{level / 100}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Augmented, averaged, layer by layer: all that a step does; a checkpoint after each."""
    path = tmp_path_factory.mktemp("config") / "experiment.toml"
    fit = f"epochs = {EPOCHS}\nbatch_size = {BATCH}\nema = 0.9\n"
    path.write_text(
        "[run]\ncheckpoint_every_steps = 1\n[data]\nimage_size_hw = [16, 16]\n"
        f"[train]\nhead_width = 16\ntarget = 'damage'\n[train.fit]\n{fit}[pretrain.fit]\n{fit}"
        "[pretrain.mae]\ndecoder_depth = 1\ndecoder_width = 12\n"
    )
    return path


@pytest.fixture(scope="module")
def base(images: Path, config: Path) -> list[str]:
    return ["--data", str(images), "--config", str(config), "--device", "cpu"]


@pytest.fixture(scope="module")
def alone(base: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert end(lineside("pretrain", *base, "--out", out)) == 0
    return out


def losses(out: Path) -> list[tuple[float, ...]]:
    rows = csv.DictReader((out / "metrics.csv").open())
    return [(float(row["training_loss"]), float(row["validation"])) for row in rows]


def assert_same_losses(ours: Path, theirs: Path) -> None:
    assert len(losses(ours)) == EPOCHS
    for own, other in zip(losses(ours), losses(theirs), strict=True):
        assert own == pytest.approx(other, rel=LOSS_TOLERANCE)


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*")}


@pytest.mark.parametrize("environment", [torchrun_environment, slurm_environment])
def test_two_processes_learn_what_one_does(
    environment: object, base: list[str], alone: Path, tmp_path: Path
) -> None:
    out, said = tmp_path / "run", tmp_path / "said"
    two = lineside_in_two(
        "pretrain",
        *base,
        "--out",
        out,
        said=said,
        environment=environment,  # type: ignore[arg-type]
    )
    assert [end(process) for process in two] == [0, 0]
    assert_same_losses(out, alone)
    assert files(out) == files(alone)
    assert "epoch 2/2" in (said / "0").read_text()
    assert (said / "1").read_text() == ""


def test_two_processes_tune_what_one_does(base: list[str], tmp_path: Path) -> None:
    assert end(lineside("train", *base, "--out", tmp_path / "one")) == 0
    two = lineside_in_two("train", *base, "--out", tmp_path / "two", said=tmp_path / "said")
    assert [end(process) for process in two] == [0, 0]
    assert_same_losses(tmp_path / "two", tmp_path / "one")
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_one_process_goes_on_where_two_were_killed_and_two_where_one_was(
    base: list[str], alone: Path, tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    two = lineside_in_two("pretrain", *base, "--out", before, said=tmp_path / "said")
    kill_after_a_checkpoint(two, before)
    assert end(lineside("pretrain", "--out", before, "--resume", "--devices", "1")) == 0
    assert_same_losses(before, alone)

    kill_after_a_checkpoint([lineside("pretrain", *base, "--out", after)], after)
    two = lineside_in_two("pretrain", "--out", after, "--resume", said=tmp_path / "said")
    assert [end(process) for process in two] == [0, 0]
    assert_same_losses(after, alone)


def kill_after_a_checkpoint(processes: Sequence[object], out: Path) -> None:
    with killed_at_the_end(processes):  # type: ignore[arg-type]
        wait_until((out / "last.ckpt").exists)
    assert not (out / "result.json").exists()


def test_our_own_launcher_starts_them_and_takes_them_with_it(
    base: list[str], alone: Path, tmp_path: Path
) -> None:
    """Killed, it leaves no process that would train on in a folder which another run goes on in."""
    out = tmp_path / "run"
    launcher = lineside("pretrain", *base, "--out", out, "--devices", "2")
    with killed_at_the_end([launcher]):
        wait_until((out / "last.ckpt").exists)
        workers = children(launcher.pid)
        assert len(workers) == 2
    wait_until(lambda: not any(map(is_running, workers)))
    assert not (out / "result.json").exists()
    assert end(lineside("pretrain", "--out", out, "--resume", "--devices", "2")) == 0
    assert_same_losses(out, alone)
    assert json.loads((out / "result.json").read_text())["run"]["command"].startswith(
        "lineside pre"
    )


def children(parent: int | None) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_torchrun_starts_them(base: list[str], alone: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"),
        *(str(Path(sys.executable).with_name("lineside")), "pretrain", *base, "--json"),
        *("--out", str(tmp_path / "run")),
    ]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True
    )
    assert json.loads(done.stdout)["method"] == "mae"  # told once
    assert_same_losses(tmp_path / "run", alone)


def test_what_one_process_refuses_ends_the_other(base: list[str], tmp_path: Path) -> None:
    out, said = tmp_path / "run", tmp_path / "said"
    out.mkdir()
    (out / "mine.txt").write_text("")
    two = lineside_in_two("pretrain", *base, "--out", out, said=said)
    assert [end(process) for process in two] == [4, 1]
    assert "exists already" in (said / "0").read_text()
    assert "process 1 of 2 lost another one" in (said / "1").read_text()
    assert files(out) == {"mine.txt"}


def test_a_fold_smaller_than_a_batch_cannot_be_shared(base: list[str], tmp_path: Path) -> None:
    said = tmp_path / "said"
    two = lineside_in_two(
        "pretrain", *base, "--batch-size", "64", "--out", tmp_path / "run", said=said
    )
    assert [end(process) for process in two] == [DataError.exit_code] * 2
    assert "fewer than a batch of 64" in (said / "0").read_text()


FAILS = """
import os, sys, time, pathlib, json
folder = pathlib.Path(sys.stdin.readline().strip())
rank = int(os.environ["RANK"])
def say(kind, message, at):
    (folder / f"{rank}.json").write_text(
        json.dumps({"kind": kind, "message": message, "trace": "", "at_ns": at}))
"""


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        # It fails, and the other is held by a collective that will never come back.
        ("say('DataError', 'no such column', 5) or sys.exit(3) if rank else time.sleep(600)",
         DataError, "no such column"),
        # Both fail: the first to fail is the cause.
        ("say('TrainerError', 'l', 9) if rank else say('ExperimentError', 'why', 8); sys.exit(1)",
         ExperimentError, "why"),
        # Killed, it says nothing; the other knows only that it has lost it.
        ("os.kill(os.getpid(), 9) if rank else (say('TrainerError', 'lost', 9), sys.exit(1))",
         TrainerError, "process 1 of 2 was ended by SIGKILL"),
        ("say('', 'ValueError: odd', 1); sys.exit(1)", TrainerError, "ValueError: odd"),
        ("sys.exit(7)", TrainerError, "exit code 7"),
    ],
)  # fmt: skip
def test_the_launcher_says_what_the_first_to_fail_said(
    script: str, kind: type[TrainerError], words: str, tmp_path: Path
) -> None:
    failures = [tmp_path / f"{rank}.json" for rank in range(2)]
    command = [sys.executable, "-c", FAILS + script]
    with pytest.raises(kind, match=words):
        supervise(command, [str(tmp_path).encode()] * 2, failures)


def test_a_launcher_is_content_where_all_are() -> None:
    supervise([sys.executable, "-c", "import sys; sys.stdin.readline()"], [b"{}"] * 3, [])


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with claimed_run(out, Experiment(), resume=False):
        (out / ".last.ckpt.1.part").write_bytes(b"torn by a kill")
        with (
            pytest.raises(ExperimentError, match="another process is at work there"),
            claimed_run(out, Experiment(), resume=True),
        ):
            pass
        assert (out / ".last.ckpt.1.part").exists()
    with claimed_run(out, Experiment(run=RunSettings(devices=2)), resume=True):
        assert files(out) == {"experiment.toml"}


shares = st.integers(1, 5)


@given(shares, st.integers(1, 4), st.integers(0, 2), st.integers(0, 99))
def test_the_processes_draws_are_those_of_one(
    own: int, size: int, images_dim: int, seed: int
) -> None:
    whole = torch.Generator().manual_seed(seed)
    shape = [3, 2, 2]
    shape[images_dim] = own * size
    expected = uniform(shape, whole, images_dim=images_dim)
    shape[images_dim] = own
    ranks = [SharedGenerator.seeded(seed, rank=rank, world_size=size) for rank in range(size)]
    drawn = [uniform(shape, generator, images_dim=images_dim) for generator in ranks]
    assert torch.equal(torch.cat(drawn, dim=images_dim), expected)
    assert all(torch.equal(rank.get_state(), whole.get_state()) for rank in ranks)


def test_a_place_is_what_torchrun_and_srun_say() -> None:
    assert find_place({}) == ALONE
    assert find_place(torchrun_environment(0, 1, 9)) == ALONE
    assert find_place(torchrun_environment(1, 2, 9)) == Place(
        rank=1, size=2, local_rank=1, local_size=2, by="torchrun"
    )
    task = slurm_environment(5, 8, 9) | {"SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "4"}
    found = find_place(task)
    assert (found.rank, found.size, found.local_rank, found.nodes) == (5, 8, 1, 2)
    # A batch script that calls us without srun is one process, however many tasks it may start.
    assert find_place({k: v for k, v in task.items() if k != "SLURM_STEP_ID"}) == ALONE
    del task["SLURM_NTASKS_PER_NODE"]
    with pytest.raises(ExperimentError, match="--ntasks-per-node"):
        find_place(task)


def test_batches_must_be_shared_evenly() -> None:
    experiment = convert_experiment({"train": {"fit": {"batch_size": 10}}}, source="test")
    check_shares("train", experiment, 5)
    with pytest.raises(ExperimentError, match=r"train\.fit\.batch_size: 10 .*--batch-size 8"):
        check_shares("train", experiment, 4)
    probe = convert_experiment({"train": {"probe": True}}, source="test")
    anomaly = convert_experiment({"train": {"task": "anomaly"}}, source="test")
    check_shares("train", anomaly, 1)
    with pytest.raises(ExperimentError, match=r"--task anomaly learns in one process"):
        check_shares("train", anomaly, 2)
    check_shares("train", probe, 1)
    with pytest.raises(ExperimentError, match="linear probe"):
        check_shares("train", probe, 2)


def test_batch_norm_is_shared_on_gpus_only() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    check_shareable(net, ALONE, "cpu")
    check_shareable(net, Place(size=2, local_size=2), "cuda")
    check_shareable(net[0], Place(size=2, local_size=2), "cpu")
    with pytest.raises(ExperimentError, match="batch norm"):
        check_shareable(net, Place(size=2, local_size=2), "cpu")


def test_only_the_loss_of_a_process_is_named_so() -> None:
    with pytest.raises(TrainerError, match="lost another one"), lost_peer():
        raise RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc] Connection closed by peer")
    with pytest.raises(RuntimeError, match="mat1"), lost_peer():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--nodes", "2"], "run.nodes: 2 machines"),
        (["--devices", "4"], "cannot be shared evenly by 4"),
        (["--devices", "0"], "run.devices"),
    ],
)
def test_processes_that_cannot_be_are_refused(
    more: list[str], words: str, base: list[str], tmp_path: Path
) -> None:
    said = tmp_path / "said"
    assert end(lineside("pretrain", *base, *more, "--out", tmp_path / "run", said=said)) == 4
    assert words in said.read_text()
    assert not (tmp_path / "run").exists()
