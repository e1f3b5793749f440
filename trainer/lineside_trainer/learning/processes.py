"""Which of a training's processes this one is, and how they meet: torchrun's, srun's or our own.

Every process runs the same verb. The first alone claims the folder, judges, saves and reports; the
others see their share of every batch and are done when the last step is.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lineside_trainer.errors import ExperimentError, TrainerError
from lineside_trainer.experiment import RunSettings
from lineside_trainer.learning.device import choose_device

PATIENCE: Final = timedelta(hours=12)
"""How long a process waits for another: the first may judge or report for long. One that died is
noticed at once: whoever started the processes ends the others, and gloo's connections close."""

_TORCHRUN: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SLURM: Final = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_STEP_ID")
_LOST: Final = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process among others.

    Attributes:
        rank: of all machines, from 0.
        size: processes on all machines.
        local_rank: on this machine, from 0; which GPU it takes.
        local_size: processes on this machine.
        by: who started them; "" for a process that is alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    by: Literal["", "torchrun", "srun"] = ""

    @property
    def is_first(self) -> bool:
        """It claims, judges, saves and reports."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.size // self.local_size


ALONE: Final = Place()


class Helped(BaseException):
    """No fault: this process is not the first, and its last step is done.

    All that follows a fit belongs to the first process; `conduct` catches this in the others.
    """


def find_place(environment: Mapping[str, str]) -> Place:
    """Read what the starter of this process left in its environment.

    Args:
        environment: as `os.environ`.

    Raises:
        ExperimentError: SLURM started tasks without saying how many run on a machine.
    """
    # srun alone numbers its steps: a batch script that calls us without srun is one process.
    if all(name in environment for name in _SLURM) and int(environment["SLURM_NTASKS"]) > 1:
        return _slurm_place(environment)
    if all(name in environment for name in _TORCHRUN) and int(environment["WORLD_SIZE"]) > 1:
        rank, size, local_rank, local_size = (int(environment[name]) for name in _TORCHRUN)
        return Place(
            rank=rank, size=size, local_rank=local_rank, local_size=local_size, by="torchrun"
        )
    return ALONE


def _slurm_place(environment: Mapping[str, str]) -> Place:
    a_node = environment.get("SLURM_NTASKS_PER_NODE", "")
    if not a_node.isdecimal():
        raise ExperimentError(
            "SLURM started several tasks and does not say how many a machine runs; "
            "give --ntasks-per-node to sbatch or srun"
        )
    rank, size, local_rank = (int(environment[name]) for name in _SLURM[:3])
    return Place(rank=rank, size=size, local_rank=local_rank, local_size=int(a_node), by="srun")


def this_place() -> Place:
    """Of a process that has joined its others; else it is alone."""
    return find_place(os.environ) if dist.is_initialized() else ALONE


def cluster_environment(place: Place) -> ClusterEnvironment:
    """Lightning's view of the same, so that it guesses nothing."""
    if place.by == "srun":
        # Lightning's own requeueing writes a checkpoint that our --resume would not look for.
        return SLURMEnvironment(auto_requeue=False)
    return TorchElasticEnvironment() if place.by == "torchrun" else LightningEnvironment()


def join(run: RunSettings) -> Place:
    """Meet the other processes, once in a process's life; alone, there is nobody to meet.

    Raises:
        ExperimentError: settings that contradict who started the processes, or fewer GPUs.
        TrainerError: the others cannot be reached.
    """
    place = find_place(os.environ)
    if place.size == 1 or dist.is_initialized():
        return place
    _check_said("devices", run.devices, place.local_size, place)
    _check_said("nodes", run.nodes, place.nodes, place)
    on_gpu = choose_device(run) == "cuda"
    if on_gpu:
        check_gpus(place.local_size)
        torch.cuda.set_device(place.local_rank)
    meeting = cluster_environment(place)
    os.environ["MASTER_ADDR"] = meeting.main_address
    os.environ["MASTER_PORT"] = str(meeting.main_port)
    # Words between processes go over gloo, which notices a peer that died; gradients over NCCL.
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    with lost_peer():
        dist.init_process_group(backend, rank=place.rank, world_size=place.size, timeout=PATIENCE)
    return place


def leave_at_exit() -> None:
    """Say goodbye when Python ends, as torch wants it of processes that have done their work.

    One that failed just ends: a goodbye might wait for others, who wait for it.
    """
    if dist.is_initialized():
        atexit.unregister(dist.destroy_process_group)
        atexit.register(dist.destroy_process_group)


def check_gpus(wanted: int) -> None:
    """Each process of a machine takes a GPU of its own.

    Raises:
        ExperimentError: there are fewer.
    """
    found = torch.cuda.device_count()
    if found < wanted:
        raise ExperimentError(
            f"run.devices: {wanted} GPUs are asked for and torch finds {found}; "
            f"use --devices {found}, or --device cpu"
        )


def _check_said(name: str, said: int, found: int, place: Place) -> None:
    # 1 is what is said by saying nothing: the starter has said it already.
    if said not in (1, found):
        raise ExperimentError(
            f"run.{name}: {said} are asked for and {place.by} started {found}; leave it away"
        )


def wait_for_others() -> None:
    """Until every process is here.

    Raises:
        TrainerError: one of them ended.
    """
    if dist.is_initialized():
        with lost_peer():
            dist.all_reduce(torch.zeros(1))  # a barrier that stays off the GPUs


def tell_all(values: list[int]) -> list[int]:
    """What the first process says, in every process; alone, the very values.

    Raises:
        TrainerError: one of them ended.
    """
    if not dist.is_initialized():
        return values
    said = torch.tensor(values)
    with lost_peer():
        dist.broadcast(said, src=0)
    return [int(value) for value in said]


def mean_of_all(value: torch.Tensor) -> None:
    """Replace a tensor by its mean over all processes.

    Raises:
        TrainerError: one of them ended.
    """
    if dist.is_initialized():
        with lost_peer():
            dist.all_reduce(value)
        value /= dist.get_world_size()


@contextmanager
def lost_peer() -> Iterator[None]:
    """Name the loss of another process as such; its own message says why it ended.

    Raises:
        TrainerError: in place of what torch's transports raise.
    """
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        if not isinstance(error, dist.DistError) and not any(word in words for word in _LOST):
            raise
        place = find_place(os.environ)
        raise TrainerError(
            f"process {place.rank} of {place.size} lost another one; what that one said is the "
            "reason, and --resume goes on from the last checkpoint"
        ) from error
